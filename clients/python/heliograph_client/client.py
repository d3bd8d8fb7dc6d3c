"""Publishing events and reporting engagements, with batches, deadlines and retries."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar

import grpc
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc, catalogue_pb2, publishing_pb2
from heliograph.policy.v1alpha1 import policy_pb2_grpc, reports_pb2
from heliograph.type.v1alpha1 import event_pb2, status_pb2

EVENTS_PER_BATCH = 1000
ENGAGEMENTS_PER_BATCH = 5000
Item = TypeVar("Item")

# Publishing and reporting are idempotent by their natural keys, so trying again is safe.
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "ABORTED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.1},
}


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the services are, and how to be known to them.

    Without `ca_pem` the connection is plain text, which the services accept on loopback only; with
    it, TLS, and with certificate and key mutual TLS.
    """

    candidate: str = "127.0.0.1:50051"
    policy: str = "127.0.0.1:50053"
    ca_pem: bytes | None = None
    certificate_pem: bytes | None = None
    key_pem: bytes | None = None

    def channel(self, address: str) -> grpc.Channel:
        """A channel that retries what may be retried."""
        options = [("grpc.service_config", json.dumps(_SERVICE_CONFIG))]
        if self.ca_pem is None:
            return grpc.insecure_channel(address, options)
        credentials = grpc.ssl_channel_credentials(self.ca_pem, self.key_pem, self.certificate_pem)
        return grpc.secure_channel(address, credentials, options)


@dataclass(frozen=True, slots=True)
class Rejected:
    """One item that was not accepted: its position in what you gave, and why."""

    index: int
    reason: str
    message: str
    fields: tuple[str, ...] = ()


@dataclass(slots=True)
class Summary:
    """How many were accepted, and which were not. The good ones are stored either way."""

    accepted: int = 0
    rejected: list[Rejected] = field(default_factory=list)

    def add(self, accepted: int, rejections: Iterable[status_pb2.Rejection], offset: int) -> None:
        """Count one batch that began at `offset`."""
        self.accepted += accepted
        for one in rejections:
            fields = tuple(f"{wrong.field}: {wrong.description}" for wrong in one.fields)
            self.rejected.append(Rejected(offset + one.index, one.reason, one.message, fields))


class Client:
    """Talks to candidate and policy. Use it as a context manager; safe to share between threads.

    Every call raises grpc.RpcError when the service refuses it as a whole, or can't be reached
    within `deadline` seconds.
    """

    def __init__(self, connection: Connection | None = None, *, deadline: float = 30.0) -> None:
        connection = connection or Connection()
        self._deadline = deadline
        self._channels = [
            connection.channel(connection.candidate),
            connection.channel(connection.policy),
        ]
        self.candidate = candidate_pb2_grpc.CandidateServiceStub(self._channels[0])
        self.policy = policy_pb2_grpc.PolicyServiceStub(self._channels[1])

    def register(
        self, event_type: event_pb2.EventType, *, request_id: str = ""
    ) -> event_pb2.EventType:
        """Register an event type, or change it; returns it with its version."""
        request = catalogue_pb2.PutEventTypeRequest(
            request_id=request_id or str(uuid.uuid4()), event_type=event_type
        )
        return self.candidate.PutEventType(request, timeout=self._deadline).event_type

    def publish(self, events: Iterable[event_pb2.Event]) -> Summary:
        """Publish any number of events, batch by batch; each batch is committed before the next.

        Publishing the same event again changes nothing, so after an error give all of them again.
        """
        summary = Summary()
        for offset, batch in _batches(events, EVENTS_PER_BATCH):
            request = publishing_pb2.PublishEventsRequest(events=batch)
            answer = self.candidate.PublishEvents(request, timeout=self._deadline)
            summary.add(answer.accepted_count, answer.rejections, offset)
        return summary

    def report(self, engagements: Iterable[reports_pb2.Engagement]) -> Summary:
        """Report what users did with notifications, in any order; repeats change nothing."""
        summary = Summary()
        for offset, batch in _batches(engagements, ENGAGEMENTS_PER_BATCH):
            request = reports_pb2.ReportEngagementRequest(engagements=batch)
            answer = self.policy.ReportEngagement(request, timeout=self._deadline)
            summary.add(answer.accepted_count, answer.rejections, offset)
        return summary

    def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _batches(items: Iterable[Item], size: int) -> Iterator[tuple[int, list[Item]]]:
    iterator = iter(items)
    offset = 0
    while batch := list(islice(iterator, size)):
        yield offset, batch
        offset += len(batch)
