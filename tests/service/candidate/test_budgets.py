"""Budgets read from policy, and the exposure report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import grpc
import pytest
from heliograph.candidate.v1alpha1 import recommending_pb2
from heliograph.policy.v1alpha1 import policy_pb2_grpc, recipients_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.candidate import budget_reading
from services.policy import sendability_store
from services.policy.handlers import sendability
from services.runtime.clock import at
from tests.conftest import StartSystem
from tests.service.candidate.calls import (
    NOW,
    Candidate,
    event,
    event_type,
    interaction,
    sent,
)

Parameters = recommending_pb2.RecommendationParameters
PUSH = notification_pb2.CHANNEL_PUSH
EXCLUDE = recommending_pb2.BUDGET_USE_EXCLUDE
DISCOUNT = recommending_pb2.BUDGET_USE_DISCOUNT
NOON = NOW + timedelta(hours=3)
USERS = ["ann", "bea", "cid", "dan"]


class World:
    """candidate and policy: ann can be reached, bea has opted out, cid's pool is full, dan is no
    recipient."""

    def __init__(self, candidate: Candidate, policy: policy_pb2_grpc.PolicyServiceAsyncStub):
        self.candidate = candidate
        self.policy = policy

    async def put(self, user: str, *, reachable: bool = True) -> None:
        recipient = recipients_pb2.Recipient(
            user_id=user,
            time_zone="UTC",
            opt_ins=[PUSH] if reachable else [],
            endpoints=[recipients_pb2.Endpoint(channel=PUSH, address=f"token-{user}")],
        )
        request = recipients_pb2.UpsertRecipientsRequest(recipients=[recipient])
        await self.policy.UpsertRecipients(iter([request]))

    async def ask(self, **fields: Any) -> Any:
        request = recommending_pb2.RecommendUsersToItemRequest(
            item_id="new", parameters=Parameters(**fields), count_omissions=True
        )
        return await self.candidate.stub.RecommendUsersToItem(request)


@pytest.fixture
async def world(start_system: StartSystem) -> AsyncIterator[World]:
    environ = {"HELIOGRAPH_CANDIDATE_POOL_SIZE": "3", "HELIOGRAPH_CANDIDATE_FACTORS": "2"}
    async with start_system("candidate", "policy", simulation=True, environ=environ) as system:
        candidate = Candidate(system.channel("candidate"))
        policy = policy_pb2_grpc.PolicyServiceStub(system.channel("policy"))
        made = World(candidate, policy)
        with at(NOON):
            await candidate.prepare(USERS, ["new", "old"], [event_type("news")])
            await candidate.interactions([interaction(user, "old") for user in USERS])
            for user in USERS[:3]:
                await made.put(user, reachable=user != "bea")
            await candidate.publish(*(event("cid", f"e{n}") for n in range(3)))
            yield made


async def test_budgets_leave_out_or_discount(world: World) -> None:
    plain = await world.ask()
    assert [user.user_id for user in plain.users] == USERS
    assert not plain.HasField("budget")
    strict = await world.ask(respect_budget=EXCLUDE)
    assert strict.budget.state == recommending_pb2.BUDGET_STATE_KNOWN
    assert [user.user_id for user in strict.users] == ["ann"]
    left_out = {one.omission: one.count for one in strict.omissions}
    assert left_out == {
        recommending_pb2.OMISSION_NO_CHANNEL: 2,
        recommending_pb2.OMISSION_POOL_FULL: 1,
    }
    mild = await world.ask(respect_budget=DISCOUNT)
    factors = {user.user_id: user.score / user.relevance for user in mild.users}
    assert factors == pytest.approx({"ann": 1.0, "bea": 0.5, "cid": 1 / 4, "dan": 0.5 / 256})


async def test_budgets_are_at_most_a_minute_old(world: World) -> None:
    await world.ask(respect_budget=EXCLUDE)
    await world.put("bea")
    with at(NOON + timedelta(seconds=20)):
        known = await world.ask(respect_budget=EXCLUDE)
    assert known.budget.age.seconds == 20
    assert [user.user_id for user in known.users] == ["ann"]
    with at(NOON + timedelta(seconds=61)):
        new = await world.ask(respect_budget=EXCLUDE)
    assert new.budget.age.seconds < 20
    assert [user.user_id for user in new.users] == ["ann", "bea"]


async def test_invariant_11_without_policy_nobody_is_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Mock(side_effect=RuntimeError("out of order"))
    monkeypatch.setattr(sendability, "_chunk", broken)
    answer = await world.ask(respect_budget=EXCLUDE)
    assert answer.budget.state == recommending_pb2.BUDGET_STATE_UNKNOWN
    assert [user.user_id for user in answer.users] == USERS


async def test_a_policy_that_hangs_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by what keeps budgets fresh, which in simulated time runs before a call."""
    await world.ask(respect_budget=EXCLUDE)
    hangs = asyncio.Event()
    monkeypatch.setattr(sendability_store, "read_partition", lambda *_: hangs.wait())
    try:
        async with asyncio.timeout(10):
            for seconds in (70, 81, 92):
                with at(NOON + timedelta(seconds=seconds)):
                    answer = await world.ask(respect_budget=EXCLUDE)
                assert answer.budget.state == recommending_pb2.BUDGET_STATE_UNKNOWN
    finally:
        hangs.set()


async def test_a_pool_that_was_emptied_is_not_full(world: World) -> None:
    await world.candidate.settle(*(sent("cid", f"e{n}") for n in range(3)))
    answer = await world.ask(respect_budget=EXCLUDE)
    assert [user.user_id for user in answer.users] == ["ann", "cid"]


async def test_what_has_left_a_pool_does_not_count_for_ever(world: World) -> None:
    """Ends don't lower what is stored of how full a pool is; it is counted every six hours."""
    await world.candidate.publish(*(event("ann", f"e{n}") for n in range(2)))
    await world.candidate.settle(sent("ann", "e0"))
    with at(NOON + timedelta(hours=7)):
        answer = await world.ask(respect_budget=DISCOUNT)
    factors = {user.user_id: user.score / user.relevance for user in answer.users}
    assert factors["ann"] == pytest.approx(1 - 1 / 4)


async def test_pools_are_read_to_the_end_of_the_table(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget_reading, "BLOCKS_AT_A_TIME", 1)
    users = [f"user-{number:03}" for number in range(300)]
    await world.candidate.prepare(users, [])
    await world.candidate.interactions([interaction(user, "old") for user in users])
    await world.candidate.publish(*(event(user, f"e{n}") for user in users for n in range(2)))
    with at(NOON + timedelta(seconds=61)):
        answer = await world.ask(respect_budget=DISCOUNT, count=400)
    factors = {user.user_id: user.score / user.relevance for user in answer.users}
    assert [factors[user] for user in users] == pytest.approx([0.5 / 256 * (1 - 2 / 4)] * 300)


async def test_exposure_counts_sends(world: World) -> None:
    report = recommending_pb2.ReportExposureRequest(days=2)
    nothing = (await world.candidate.stub.ReportExposure(report)).exposure
    assert (nothing.user_count, nothing.send_count, nothing.gini) == (4, 0, 0.0)
    await world.candidate.settle(sent("cid", "e0"), sent("cid", "e1"))
    await world.candidate.publish(event("ann", "e9"))
    await world.candidate.settle(sent("ann", "e9"))
    with at(NOON + timedelta(seconds=61)):
        some = (await world.candidate.stub.ReportExposure(report)).exposure
        answer = await world.ask()
    assert (some.reached_user_count, some.reached_share, some.send_count) == (2, 0.5, 3)
    assert some.gini == pytest.approx((1 * 1 + 3 * 2) / (4 * 3))
    assert answer.exposure.days == 7
    assert answer.exposure.send_count == 3
    with at(NOON + timedelta(days=3)):
        later = (await world.candidate.stub.ReportExposure(report)).exposure
    assert later.send_count == 0
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await world.candidate.stub.ReportExposure(recommending_pb2.ReportExposureRequest(days=31))
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
