"""The candidate service in a process of its own, for benches."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from heliograph.candidate.v1alpha1 import candidate_pb2_grpc, catalogue_pb2
from heliograph.type.v1alpha1 import event_pb2, notification_pb2

from bench.service_process import BenchDatabase, ServiceProcess, service_process


@dataclass(frozen=True)
class BenchService(ServiceProcess):
    """A running candidate service."""

    stub: candidate_pb2_grpc.CandidateServiceStub

    def register(self, name: str) -> None:
        """Put an event type with the ranked route."""
        push = notification_pb2.CHANNEL_PUSH
        template = event_pb2.Template(channel=push, title="{{ item.title }}")
        kind = event_pb2.EventType(
            name=name, route=event_pb2.ROUTE_RANKED, channels=[push], templates=[template]
        )
        self.stub.PutEventType(catalogue_pb2.PutEventTypeRequest(event_type=kind))


@contextmanager
def candidate_service(
    database: BenchDatabase, environ: Mapping[str, str] | None = None
) -> Iterator[BenchService]:
    """The service, ready to be called; its log is in the database's folder. Raises RuntimeError
    when it doesn't start."""
    with service_process("candidate", database, environ) as one:
        stub = candidate_pb2_grpc.CandidateServiceStub(one.channel)
        yield BenchService(one.channel, one.metrics_port, one.address, one.pid, stub)
