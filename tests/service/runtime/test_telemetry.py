"""Traces reach a collector across services; metrics count the calls; the log names them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import pytest
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc, catalogue_pb2
from heliograph.policy.v1alpha1 import control_pb2, policy_pb2_grpc, recipients_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2
from prometheus_client import REGISTRY

from services.runtime import Bind, Host
from services.runtime.errors import NotFound
from tests.service.runtime.conftest import StartFrame
from tests.service.runtime.handlers import Context, PolicyHandler, bind_policy, snooze


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it is sent, by service name."""

    spans: dict[str, list[trace_pb2.Span]] = field(default_factory=dict)

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Context
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            named = {one.key: one.value.string_value for one in resource.resource.attributes}
            spans = [span for scope in resource.scope_spans for span in scope.spans]
            self.spans.setdefault(named["service.name"], []).extend(spans)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    """A collector and its endpoint."""
    server = grpc.aio.server()
    received = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(received, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield received, f"http://127.0.0.1:{port}"
    await server.stop(None)


class CallsPolicy(candidate_pb2_grpc.CandidateServiceServicer):
    """EraseUser calls policy on, as a service calls its peers."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def EraseUser(
        self, request: catalogue_pb2.EraseUserRequest, context: Context
    ) -> catalogue_pb2.EraseUserResponse:
        stub = policy_pb2_grpc.PolicyServiceStub(self._host.peers.channel("policy"))
        await stub.Snooze(snooze(request.user_id))
        _ = [one async for one in stub.WatchVolume(control_pb2.WatchVolumeRequest(once=True))]
        return catalogue_pb2.EraseUserResponse()


async def bind_candidate(host: Host) -> None:
    host.add(candidate_pb2_grpc.add_CandidateServiceServicer_to_server, CallsPolicy(host))


async def test_a_trace_spans_the_services(
    start_frame: StartFrame, collector: tuple[Collector, str]
) -> None:
    received, endpoint = collector
    binds: dict[str, Bind] = {
        "policy": bind_policy(PolicyHandler()),
        "candidate": bind_candidate,
    }
    system = await start_frame(binds, otlp_endpoint=endpoint)
    stub = candidate_pb2_grpc.CandidateServiceStub(system.channel("candidate"))
    await stub.EraseUser(catalogue_pb2.EraseUserRequest(user_id="u1"))
    await system.stop()
    candidate, policy = received.spans["heliograph-candidate"], received.spans["heliograph-policy"]
    assert len(candidate) == 3
    assert len(policy) == 2
    assert len({span.trace_id for span in (*candidate, *policy)}) == 1
    outgoing = {span.span_id for span in candidate if span.kind == trace_pb2.Span.SPAN_KIND_CLIENT}
    assert {span.parent_span_id for span in policy} == outgoing


def counted(method: str, code: str) -> float:
    """How many calls of policy have ended so in this process."""
    labels = {"method": method, "code": code}
    return REGISTRY.get_sample_value("heliograph_policy_calls_total", labels) or 0.0


async def test_calls_are_counted_and_failures_logged(
    start_frame: StartFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    async def refuse(request: recipients_pb2.SnoozeRequest) -> recipients_pb2.SnoozeResponse:
        if request.user_id == "nobody":
            raise NotFound("no such user", reason="UNKNOWN_USER")
        return recipients_pb2.SnoozeResponse()

    before = counted("Snooze", "OK"), counted("Snooze", "NOT_FOUND")
    system = await start_frame({"policy": bind_policy(PolicyHandler(refuse))})
    stub = policy_pb2_grpc.PolicyServiceStub(system.channel("policy"))
    await stub.Snooze(snooze("somebody"))
    assert "Snooze" not in "".join(capsys.readouterr())
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.Snooze(snooze("nobody"))
    assert "UNKNOWN_USER" in "".join(capsys.readouterr())
    assert (counted("Snooze", "OK"), counted("Snooze", "NOT_FOUND")) == (
        before[0] + 1,
        before[1] + 1,
    )
    open_now = REGISTRY.get_sample_value("heliograph_policy_open_calls", {"method": "Snooze"})
    assert open_now == 0
