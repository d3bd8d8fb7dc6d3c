"""Deciders and leasers at work together: caps, volume, outbox and feed stay one account."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

from heliograph.policy.v1alpha1 import deliveries_pb2, explanation_pb2

from tests.service.policy.asked import NOW, decide, event, slot
from tests.service.policy.recorded import PUSH, Policy, recipient

USERS = [f"user-{number:02}" for number in range(25)]
EXPIRY = NOW + timedelta(hours=1)


async def test_invariants_4_and_5_hold_while_drops_give_caps_back_to_deciders(
    policy: Policy,
) -> None:
    """Each delivery expires before it is leased, so every drop frees its user for another one."""
    await policy.upsert(*(recipient(user) for user in USERS))
    rounds = 4

    async def decider(name: str) -> None:
        for number in range(rounds):
            key = f"{name}-{number}"
            slots = [
                slot(event(f"{key}-{user}", user, expire_time=EXPIRY), user_id=user, slot_id=key)
                for user in USERS
            ]
            answer = await decide(policy, *slots)
            assert len(answer.decisions) == len(USERS)

    async def leaser(name: str) -> None:
        while deciding:
            answer = await policy.lease(name, moment=EXPIRY, limit=10)
            assert not answer.deliveries

    async def decide_all() -> None:
        await asyncio.gather(*(decider(name) for name in "abc"))
        deciding.clear()

    deciding = {True}
    await asyncio.gather(decide_all(), *(leaser(f"pacer-{number}") for number in range(3)))
    await decider("last")

    rows = await policy.rows("SELECT user_id, event_id, delivery_id, state FROM outbox")
    waiting = {row.delivery_id for row in rows if row.state == "waiting"}
    dropped = {row.delivery_id for row in rows if row.state == "dropped"}
    assert dropped
    assert len(waiting) + len(dropped) == len(rows)
    assert max(Counter(row.user_id for row in rows if row.state == "waiting").values()) == 1
    assert len({(row.user_id, row.event_id) for row in rows}) == len(rows)
    counted = [one for user in USERS for one in await policy.sends_of(user)]
    assert sorted(counted) == sorted(waiting)
    assert await policy.volume() == {"decided": len(rows), "dropped": len(dropped)}
    entries = await policy.feed()
    told = [one.drop.delivery_id for one in entries if one.WhichOneof("entry") == "drop"]
    assert sorted(told) == sorted(dropped)
    assert sum(one.decision.send for one in entries) == len(rows)


async def test_a_dropped_delivery_frees_its_user_for_another_event_but_not_the_same(
    policy: Policy,
) -> None:
    """Invariant 3: the event has ended, whatever became of its delivery."""
    one = event("once", expire_time=EXPIRY)
    (first,) = (await decide(policy, slot(one))).decisions
    assert first.send
    assert (await policy.lease(moment=EXPIRY)).dropped_count == 1

    same = event("once")
    (again,) = (await decide(policy, slot(same, slot_id="second"))).decisions
    (other,) = (await decide(policy, slot(event("other"), slot_id="third"))).decisions

    assert not again.send
    assert (other.send, other.channel) == (True, PUSH)
    listed = await policy.stub.ListDecisions(explanation_pb2.ListDecisionsRequest(user_id="ann"))
    became = {one.delivery_id: (one.state, one.detail) for one in listed.deliveries}
    assert became == {
        first.delivery_id: ("dropped", "EXPIRED"),
        other.delivery_id: ("waiting", ""),
    }


async def test_the_way_of_a_notification_shows_in_the_feed_in_its_order(policy: Policy) -> None:
    (made,) = (await decide(policy, slot(event("a")))).decisions
    (leased,) = (await policy.lease(moment=NOW)).deliveries
    taken = deliveries_pb2.DeliveryAck(
        delivery_id=leased.delivery_id, end=deliveries_pb2.DELIVERY_END_DELIVERED
    )
    await policy.ack(taken, moment=NOW)

    entries = await policy.feed()

    assert [one.WhichOneof("entry") for one in entries] == ["decision", "send"]
    assert entries[1].send.decision_id == made.decision_id
