"""StreamSendability beside the rules, for users of all kinds."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from heliograph.policy.v1alpha1 import experiments_pb2, sendability_pb2
from sqlalchemy import text

from services.policy import decide_store, switch_store
from services.policy.batch import Batch, Event, EventType, Slot, Surroundings, User
from services.policy.channel_bits import CHANNELS, bit
from services.policy.experiment_store import ExperimentStore
from services.policy.rules import apply_rules
from services.policy.rules.caps_and_gaps import caps_of, recent, remaining
from services.policy.rules.removal import KEPT
from services.policy.settings import PolicySettings
from services.runtime.clock import at
from tests.service.policy.recorded import NOW, Policy

ANYTHING = Event("any", EventType("any", CHANNELS, topic=""))
HOURS_AGO = (0.5, 2.0, 2.99, 3.0, 3.01, 7.0, 16.0, 23.9, 24.0, 24.1, 40.0)
INSERT = """
INSERT INTO recipients (user_id, time_zone, locale, create_time, update_time, opt_ins, reachable,
    muted_channels, muted_topics, quiet_start, quiet_end, snooze_until)
VALUES (:user_id, :time_zone, 'en', :now, :now, :opt_ins, :reachable, :muted_channels,
    '{movies}', :quiet_start, :quiet_end, :snooze_until)
"""
INSERT_FATIGUE = """
INSERT INTO fatigue (user_id, send_times, send_channels, send_deliveries)
VALUES (:user_id, :times, :channels, :deliveries)
"""


def _kind(draw: random.Random) -> dict[str, Any]:
    quiet_start, quiet_end = draw.choice([(None, None), (600, 1000), (0, 0)])
    return {
        "time_zone": draw.choice(["America/New_York", "Asia/Tokyo", "UTC"]),
        "opt_ins": draw.choice([7, 7, 5, 2]),
        "reachable": draw.choice([7, 7, 3]),
        "muted_channels": draw.choice([0, 0, 0, 4]),
        "quiet_start": quiet_start,
        "quiet_end": quiet_end,
        "snooze_until": draw.choice([None, None, NOW, NOW + timedelta(hours=1)]),
    }


async def store_users(policy: Policy) -> None:
    """Many of each of some kinds, so that users differ in nothing but their sends."""
    draw = random.Random(7)
    kinds = [_kind(draw) for _ in range(12)]
    async with policy.database.unit_of_work() as work:
        for number in range(400):
            user, hours = f"user-{number:03}", draw.sample(HOURS_AGO, draw.randint(0, 3))
            row = {"user_id": user, "now": NOW} | kinds[number % len(kinds)]
            await work.execute(text(INSERT), row)
            sends = {
                "user_id": user,
                "times": [NOW - timedelta(hours=one) for one in sorted(hours, reverse=True)],
                "channels": [draw.choice(CHANNELS) for _ in hours],
                "deliveries": [f"d{one}" for one in hours],
            }
            await work.execute(text(INSERT_FATIGUE), sends)
        await work.commit()


async def put_experiment(policy: Policy) -> None:
    """Half of the users have a cap of their own, and some of the others are in a holdout."""
    groups = [
        experiments_pb2.ExperimentGroup(name="less", weight=5, overrides={"cap_per_day": "1"}),
        experiments_pb2.ExperimentGroup(name="rest", weight=3),
        experiments_pb2.ExperimentGroup(name="nothing", weight=2, holdout=True),
    ]
    wanted = experiments_pb2.Experiment(
        name="fewer", layer="caps", share=1.0, groups=groups, active=True
    )
    request = experiments_pb2.PutExperimentRequest(request_id="r1", experiment=wanted)
    with at(NOW):
        await policy.stub.PutExperiment(request)


async def streamed(policy: Policy, moment: datetime) -> dict[str, tuple[int, int, int]]:
    """Open channels, sends left and cap by user, each of whom comes once."""
    found: list[tuple[str, tuple[int, int, int]]] = []
    request = sendability_pb2.StreamSendabilityRequest(chunk_size=150)
    with at(moment):
        async for chunk in policy.stub.StreamSendability(request):
            columns = zip(
                chunk.sendable_channels, chunk.remaining_today, chunk.daily_caps, strict=True
            )
            found.extend(zip(chunk.user_ids, columns, strict=True))
    assert len(dict(found)) == len(found)
    return dict(found)


async def judged(policy: Policy, moment: datetime) -> dict[str, tuple[int, int, int]]:
    """The same by the rules, user by user."""
    settings = PolicySettings()
    async with policy.database.read() as work:
        names = [row.user_id for row in await work.rows(text("SELECT user_id FROM recipients"))]
        experiments = await ExperimentStore().current(work)
        users = await decide_store.read_users(work, names, experiments, moment, lock=False)
        switches = await switch_store.closed(work)
    around = Surroundings(moment, switches, settings.caps, settings.quiet_hours)
    return {name: _judged(user, around) for name, user in users.items()}


def _judged(user: User, around: Surroundings) -> tuple[int, int, int]:
    batch = Batch([Slot(user.user_id, "s", around.now, (ANYTHING,))], {user.user_id: user}, around)
    left = apply_rules(batch).removed_by == KEPT
    channels = sum(bit(channel) for channel, kept in zip(CHANNELS, left, strict=True) if kept)
    cap = caps_of(user.membership, around.caps)
    sends = recent(user.fatigue.sends, around.now)
    return 0 if user.membership.holdout else channels, remaining(cap, sends), cap.per_day


async def test_users_judged_together_are_judged_as_each_alone(policy: Policy) -> None:
    await store_users(policy)
    for moment in (NOW, NOW + timedelta(hours=9)):
        expected = await judged(policy, moment)
        assert len({channels for channels, _, _ in expected.values()}) > 4
        assert await streamed(policy, moment) == expected
    await put_experiment(policy)
    expected = await judged(policy, NOW)
    assert len({(left, cap) for _, left, cap in expected.values()}) > 4
    assert await streamed(policy, NOW) == expected
