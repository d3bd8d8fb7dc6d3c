"""Many deciders at once, each in its own transaction, on one Postgres."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from itertools import pairwise

import grpc
from heliograph.policy.v1alpha1 import decide_pb2

from services.policy.batch import Caps
from services.policy.channel_bits import EMAIL, PUSH
from tests.service.policy.asked import NOW, READY, decide, event, ready, slot
from tests.service.policy.recorded import Policy, recipient

USERS = [f"user-{number:02}" for number in range(12)]


async def _patiently(policy: Policy, slots: list[decide_pb2.Slot]) -> decide_pb2.DecideResponse:
    """Again while another transaction is in the way, as the pacer does."""
    for _ in range(20):
        try:
            return await decide(policy, *slots)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ABORTED:
                raise
    raise AssertionError("still aborted")


async def test_invariant_5_concurrent_deciders_never_pass_the_caps(policy: Policy) -> None:
    """Twelve deciders at one moment, each with other slots of the same users in another order."""
    await policy.upsert(*(recipient(name, time_zone="UTC") for name in USERS))
    order = random.Random(1)
    batches = []
    for decider in range(12):
        slots = [
            slot(
                event(f"e{decider}", name),
                user_id=name,
                slot_id=f"slot-{decider}",
                time=NOW - timedelta(hours=decider),
            )
            for name in USERS
        ]
        order.shuffle(slots)
        batches.append(slots)
    answers = await asyncio.gather(*(_patiently(policy, slots) for slots in batches))
    made = [one for answer in answers for one in answer.decisions]
    assert len(made) == 12 * len(USERS)
    sent = Counter(one.user_id for one in made if one.send)
    assert sent == dict.fromkeys(USERS, 1)  # the gap of three hours lets one through
    rows = await policy.rows("SELECT user_id, cardinality(send_times) AS sends FROM fatigue")
    assert {row.user_id: row.sends for row in rows} == dict.fromkeys(USERS, 1) | {"ann": 0}
    (volume,) = await policy.rows("SELECT sum(count) AS total FROM volume WHERE kind = 'decided'")
    (outbox,) = await policy.rows("SELECT count(*) AS total FROM outbox")
    (feed,) = await policy.rows("SELECT count(*) AS total FROM feed")
    assert (volume.total, outbox.total, feed.total) == (len(USERS), len(USERS), len(made))


async def test_invariant_5_over_two_days_of_racing_deciders(policy: Policy) -> None:
    """Every hour several deciders race with fresh events; no window of 24 hours passes a cap."""
    names = USERS[:4]
    await policy.upsert(*(recipient(name, time_zone="UTC") for name in names))
    sends: dict[str, list[tuple[float, int]]] = {name: [] for name in names}
    for hour in range(0, 48, 2):
        moment = NOW + timedelta(hours=hour)

        async def race(decider: int, moment=moment, hour=hour) -> decide_pb2.DecideResponse:
            slots = [
                slot(
                    event(f"{hour}-{decider}", name, expire_time=None),
                    user_id=name,
                    time=moment,
                    slot_id=f"{hour}-{decider}",
                )
                for name in names
            ]
            return await decide(policy, *slots, moment=moment)

        for answer in await asyncio.gather(*map(race, range(3))):
            for one in answer.decisions:
                if one.send:
                    sends[one.user_id].append((hour, one.channel))
    caps = Caps()
    for history in sends.values():
        assert len(history) >= 4
        for hour, _ in history:
            window = [channel for time, channel in history if hour - 24 < time <= hour]
            assert len(window) <= caps.per_day
            assert window.count(PUSH) <= caps.per_channel[PUSH]
            assert window.count(EMAIL) <= caps.per_channel[EMAIL]
        times = [hour for hour, _ in history]
        assert all(after - before >= 3 for before, after in pairwise(times))


async def test_invariant_2_racing_calls_for_one_slot_answer_the_same(policy: Policy) -> None:
    """The same slot asked for ten times at once, with different events: one decision."""
    calls = [_patiently(policy, [slot(event(f"e{number}"))]) for number in range(10)]
    answers = await asyncio.gather(*calls)
    made = {answer.decisions[0].SerializeToString(deterministic=True) for answer in answers}
    assert len(made) == 1
    (stored,) = await policy.rows("SELECT count(*) AS total FROM decisions")
    assert stored.total == 1


async def test_invariant_3_an_event_in_many_racing_slots_is_sent_once(policy: Policy) -> None:
    """Ready and ranked, in slots of their own, on two days."""
    message = event("m", kind=READY.name)
    slots = [ready(message, NOW - timedelta(days=number)) for number in range(3)]
    ranked = event("m")
    slots += [
        slot(ranked, slot_id=f"s{number}", time=NOW - timedelta(days=number)) for number in range(3)
    ]
    answers = await asyncio.gather(*(_patiently(policy, [one]) for one in slots))
    made = [answer.decisions[0] for answer in answers]
    deliveries = {one.delivery_id for one in made if one.send}
    assert len(deliveries) == 1
    (outbox,) = await policy.rows("SELECT count(*) AS total FROM outbox")
    assert outbox.total == 1
