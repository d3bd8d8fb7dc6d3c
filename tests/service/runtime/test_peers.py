"""Outgoing calls: shortened deadlines, metadata that goes along, retries within a budget."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from heliograph.policy.v1alpha1 import policy_pb2_grpc, recipients_pb2
from sqlalchemy import text

from services.runtime import Host, calls
from services.runtime.channels import Peers
from services.runtime.errors import Aborted, DomainError, FailedPrecondition, Unavailable
from services.runtime.settings import Endpoint, RuntimeSettings
from tests.service.runtime.conftest import StartFrame
from tests.service.runtime.handlers import PolicyHandler, bind_policy, snooze

ROUNDING_S = 0.1
"""gRPC rounds a time-out up when it sends it."""


class Failing:
    """Fails with the errors given, one a call, then answers; counts the calls."""

    def __init__(self, *errors: DomainError) -> None:
        self._errors = list(errors)
        self.count = 0
        self.request_ids: list[str] = []
        self.remaining: float | None = None

    async def __call__(self, _: recipients_pb2.SnoozeRequest) -> recipients_pb2.SnoozeResponse:
        self.count += 1
        self.request_ids.append(calls.request_id())
        self.remaining = calls.remaining()
        if self._errors:
            raise self._errors.pop(0)
        return recipients_pb2.SnoozeResponse()


async def stub_for(
    start: StartFrame, failing: Failing, **settings: object
) -> policy_pb2_grpc.PolicyServiceAsyncStub:
    system = await start({"policy": bind_policy(PolicyHandler(failing))}, **settings)
    return policy_pb2_grpc.PolicyServiceStub(system.channel("policy"))


async def test_unavailable_and_aborted_are_tried_again(start_frame: StartFrame) -> None:
    failing = Failing(Unavailable("not now"), Aborted("lost"))
    stub = await stub_for(start_frame, failing)
    await stub.Snooze(snooze("u1"))
    assert failing.count == 3


async def test_attempts_are_limited(start_frame: StartFrame) -> None:
    failing = Failing(*[Unavailable("not now")] * 9)
    stub = await stub_for(start_frame, failing, retry_attempts=2)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.Snooze(snooze("u1"))
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    assert failing.count == 2


async def test_other_errors_are_not_tried_again(start_frame: StartFrame) -> None:
    failing = Failing(FailedPrecondition("no"))
    stub = await stub_for(start_frame, failing)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.Snooze(snooze("u1"))
    assert failing.count == 1


async def test_an_outage_does_not_multiply_calls(start_frame: StartFrame) -> None:
    failing = Failing(*[Unavailable("down")] * 1000)
    stub = await stub_for(start_frame, failing, retry_budget=5.0)
    answers = await asyncio.gather(
        *(stub.Snooze(snooze(f"u{number}")) for number in range(60)), return_exceptions=True
    )
    assert all(isinstance(answer, grpc.aio.AioRpcError) for answer in answers)
    assert 60 < failing.count <= 60 + 5 + 6 + 3  # burst, earned by calls, earned by time


async def test_the_incoming_deadline_shortens_the_outgoing(start_frame: StartFrame) -> None:
    failing = Failing()
    stub = await stub_for(start_frame, failing, default_deadline_s=20.0)
    await stub.Snooze(snooze("u1"))
    assert failing.remaining is not None
    assert 10 < failing.remaining < 20 + ROUNDING_S

    async def within(remaining_s: float) -> None:
        calls.set_deadline(remaining_s)
        calls.set_request_id("r-7")
        await stub.Snooze(snooze("u1"))
        assert failing.remaining is not None
        assert failing.remaining < remaining_s + ROUNDING_S
        await stub.Snooze(snooze("u1"), timeout=remaining_s / 2)
        assert failing.remaining < remaining_s / 2 + ROUNDING_S

    await asyncio.create_task(within(5.0))
    assert failing.request_ids[-1] == "r-7"


async def test_a_peer_that_is_not_there_is_unavailable() -> None:
    peers = Peers(RuntimeSettings(policy=Endpoint(address="127.0.0.1:1"), retry_attempts=2))
    stub = policy_pb2_grpc.PolicyServiceStub(peers.channel("policy"))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.Snooze(snooze("u1"), timeout=5)
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    await peers.close()


async def test_cancelling_the_caller_cancels_the_call(start_frame: StartFrame) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def hang(_: recipients_pb2.SnoozeRequest) -> recipients_pb2.SnoozeResponse:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    system = await start_frame({"policy": bind_policy(PolicyHandler(hang))})
    stub = policy_pb2_grpc.PolicyServiceStub(system.channel("policy"))

    async def call() -> None:
        await stub.Snooze(snooze("u1"))

    calling = asyncio.create_task(call())
    async with asyncio.timeout(10):
        await started.wait()
        calling.cancel()
        await ended.wait()


async def test_a_host_has_its_own_role_in_the_database(start_frame: StartFrame) -> None:
    hosts: list[Host] = []
    await start_frame({"policy": bind_policy(PolicyHandler(), hosts.append)})
    async with hosts[0].database.read() as work:
        (row,) = await work.rows(text("SELECT current_user, current_schema()"))
    assert tuple(row) == ("heliograph_policy", "policy")
