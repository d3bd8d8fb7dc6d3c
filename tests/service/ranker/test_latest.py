"""Which snapshots a rehearsal reads."""

from __future__ import annotations

from datetime import timedelta

from services.ranker.rank_log import RankLog, UserSnapshot
from tests.conftest import OpenDatabase
from tests.service.ranker.conftest import NOW


def snapshot(user: str, events: int) -> UserSnapshot:
    return UserSnapshot(user, "m", user.encode(), [f"e{n}" for n in range(events)], b"events")


async def test_the_last_snapshots_of_the_newest_day_are_read(open_database: OpenDatabase) -> None:
    log = RankLog(open_database("ranker"))
    assert await log.latest(9) == []
    for minute, user in enumerate(["u0", "u1", "u2"]):
        await log.keep(f"20260105.{user}", NOW + timedelta(minutes=minute), [snapshot(user, 2)])
    await log.keep("20260104.x", NOW - timedelta(days=1), [snapshot("yesterday", 2)])
    await log.keep("20260105.y", NOW + timedelta(hours=1), [snapshot("without-events", 0)])
    assert [each.features for each in await log.latest(2)] == [b"u2", b"u1"]
    found = await log.latest(9)
    assert [each.features for each in found] == [b"u2", b"u1", b"u0"]
    assert {(each.event_count, each.events) for each in found} == {(2, b"events")}


async def test_of_a_large_day_only_the_last_pages_are_read(open_database: OpenDatabase) -> None:
    database = open_database("ranker")
    log = RankLog(database)
    for call in range(4):
        users = [snapshot(f"u{call}-{n}-{'x' * 100}", 1) for n in range(4000)]
        await log.keep(f"20260105.{call}", NOW + timedelta(minutes=-call), users)
    found = await log.latest(100_000)
    assert 0 < len(found) < 16_000
    assert found[-1].features.startswith(b"u3-")
