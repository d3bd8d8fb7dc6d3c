"""Simulated time travels with requests, across services, and periodic tasks follow it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import grpc
import pytest
from google.rpc import error_details_pb2
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc, catalogue_pb2
from heliograph.policy.v1alpha1 import policy_pb2_grpc, recipients_pb2

from services.runtime import Host, clock
from tests.service.runtime.conftest import StartFrame
from tests.service.runtime.handlers import Context, PolicyHandler, bind_policy, snooze
from tests.service.runtime.test_calls import detail

DAY = timedelta(days=1)
MARCH = datetime(2026, 3, 1, 8, 0, 0, 123456, tzinfo=UTC)


class CandidateHandler(candidate_pb2_grpc.CandidateServiceServicer):
    """EraseUser calls policy on, as a service calls its peers."""

    def __init__(self, host: Host, seen: list[datetime]) -> None:
        self._host = host
        self._seen = seen

    async def EraseUser(
        self, request: catalogue_pb2.EraseUserRequest, context: Context
    ) -> catalogue_pb2.EraseUserResponse:
        self._seen.append(self._host.clock.now())
        stub = policy_pb2_grpc.PolicyServiceStub(self._host.peers.channel("policy"))
        await stub.Snooze(snooze(request.user_id))
        return catalogue_pb2.EraseUserResponse()


async def test_time_passes_from_service_to_service(start_frame: StartFrame) -> None:
    hosts: list[Host] = []
    seen: list[datetime] = []

    async def note(_: recipients_pb2.SnoozeRequest) -> recipients_pb2.SnoozeResponse:
        seen.append(hosts[0].clock.now())
        return recipients_pb2.SnoozeResponse()

    async def bind_candidate(host: Host) -> None:
        handler = CandidateHandler(host, seen)
        host.add(candidate_pb2_grpc.add_CandidateServiceServicer_to_server, handler)

    system = await start_frame(
        {"policy": bind_policy(PolicyHandler(note), hosts.append), "candidate": bind_candidate},
        simulation=True,
    )
    stub = candidate_pb2_grpc.CandidateServiceStub(system.channel("candidate"))
    for moment in (MARCH, MARCH + DAY, MARCH - DAY):
        seen.clear()
        with clock.at(moment):
            await stub.EraseUser(catalogue_pb2.EraseUserRequest(user_id="u1"))
        assert seen == [moment, moment]
    seen.clear()
    await stub.EraseUser(catalogue_pb2.EraseUserRequest(user_id="u1"))
    assert seen == [MARCH + DAY, MARCH + DAY]


async def test_periodic_tasks_run_before_the_request_that_reached_them(
    start_frame: StartFrame,
) -> None:
    events: list[tuple[str, datetime]] = []
    hosts: list[Host] = []

    async def note(_: recipients_pb2.SnoozeRequest) -> recipients_pb2.SnoozeResponse:
        events.append(("request", hosts[0].clock.now()))
        return recipients_pb2.SnoozeResponse()

    async def tick(moment: datetime) -> None:
        assert moment == hosts[0].clock.now()
        events.append(("tick", moment))

    def then(host: Host) -> None:
        hosts.append(host)
        host.periodic("tick", timedelta(hours=1), tick)

    system = await start_frame({"policy": bind_policy(PolicyHandler(note), then)}, simulation=True)
    stub = policy_pb2_grpc.PolicyServiceStub(system.channel("policy"))
    assert events == []
    minutes = [0, 59, 60, 60, 30, 119, 600, 601]
    for minute in minutes:
        with clock.at(MARCH + timedelta(minutes=minute)):
            await stub.Snooze(snooze("u1"))
    ticks = {index: when for index, (what, when) in enumerate(events) if what == "tick"}
    assert [(when - MARCH) / timedelta(minutes=1) for when in ticks.values()] == [0, 60, 600]
    for index, when in ticks.items():
        assert events[index + 1] == ("request", when)
    assert len(events) - len(ticks) == len(minutes)


async def test_concurrent_requests_wait_for_one_run(start_frame: StartFrame) -> None:
    ticking, release = asyncio.Event(), asyncio.Event()
    order: list[str] = []

    async def note(_: recipients_pb2.SnoozeRequest) -> recipients_pb2.SnoozeResponse:
        order.append("request")
        return recipients_pb2.SnoozeResponse()

    async def tick(_: datetime) -> None:
        ticking.set()
        await release.wait()
        order.append("tick")

    def then(host: Host) -> None:
        host.periodic("tick", DAY, tick)

    system = await start_frame({"policy": bind_policy(PolicyHandler(note), then)}, simulation=True)
    stub = policy_pb2_grpc.PolicyServiceStub(system.channel("policy"))
    with clock.at(MARCH):
        waiting = [asyncio.ensure_future(stub.Snooze(snooze("u1"))) for _ in range(5)]
        await ticking.wait()
        release.set()
        await asyncio.gather(*waiting)
    assert order == ["tick", *["request"] * 5]


async def test_a_failing_task_fails_no_request(start_frame: StartFrame) -> None:
    async def tick(_: datetime) -> None:
        raise RuntimeError("broken")

    system = await start_frame(
        {"policy": bind_policy(PolicyHandler(), lambda host: host.periodic("tick", DAY, tick))},
        simulation=True,
    )
    stub = policy_pb2_grpc.PolicyServiceStub(system.channel("policy"))
    with clock.at(MARCH):
        await stub.Snooze(snooze("u1"))


async def test_outside_simulation_the_key_is_refused(start_frame: StartFrame) -> None:
    system = await start_frame({"policy": bind_policy(PolicyHandler())})
    stub = policy_pb2_grpc.PolicyServiceStub(system.channel("policy"))
    metadata = ((clock.TIME_METADATA_KEY, clock.format_time(MARCH)),)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Snooze(snooze("u1"), metadata=metadata)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert detail(refused.value, error_details_pb2.ErrorInfo).reason == "SIMULATION_OFF"
    with clock.at(MARCH):
        await stub.Snooze(snooze("u1"))


async def test_on_the_wall_clock_tasks_run_by_themselves(start_frame: StartFrame) -> None:
    times: list[datetime] = []
    enough, background, restarted = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def tick(moment: datetime) -> None:
        times.append(moment)
        if len(times) == 3:
            enough.set()
        if len(times) == 1:
            raise RuntimeError("only once")

    async def work() -> None:
        if not background.is_set():
            background.set()
            raise RuntimeError("start me again")
        restarted.set()
        await asyncio.Event().wait()

    def then(host: Host) -> None:
        host.periodic("tick", timedelta(milliseconds=20), tick)
        host.background("work", work)

    await start_frame({"policy": bind_policy(PolicyHandler(), then)})
    async with asyncio.timeout(10):
        await enough.wait()
        await restarted.wait()
    assert all(before < after for before, after in pairwise(times))
