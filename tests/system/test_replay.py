"""The replay on the whole system: made data, two days, every service real."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from services.runtime.settings import SERVICE_NAMES
from simulation.made_data import made_movielens
from simulation.movielens import MovieLens
from simulation.replay import ReplayOptions, run
from simulation.report import NoProgress
from simulation.results import ReplayResult
from tests.conftest import StartSystem

OPTIONS = ReplayOptions(days=2, target=0.5, seed=1)
CAP_PER_DAY = 3


@pytest.fixture
def made(tmp_path: Path) -> MovieLens:
    """60 users with strong tastes, 80 films; stands in for MovieLens 100K, which needs network."""
    return made_movielens(tmp_path / "ml-100k", users=60, items=80, each=24)


async def _replayed(
    start_system: StartSystem, data: MovieLens, options: ReplayOptions
) -> ReplayResult:
    async with start_system(*SERVICE_NAMES, simulation=True) as system:
        addresses = {name: system.address(name) for name in SERVICE_NAMES}
        return await run(addresses, options, NoProgress(), data)


@pytest.mark.timeout(300)
async def test_days_of_notifications(start_system: StartSystem, made: MovieLens) -> None:
    result = await _replayed(start_system, made, OPTIONS)
    assert [day.day for day in result.days] == ["2026-01-05", "2026-01-06"]
    for day in result.days:
        assert set(day.sources) == {
            "friend_activity",
            "following",
            "collaborative",
            "fresh",
            "popular",
        }
        assert sum(count.accepted for count in day.sources.values()) > 0
        assert day.decided > 0
        assert day.opens.sent == sum(sum(arms.values()) for arms in day.sent.values())
        assert sum(day.decided_by_arm.values()) == day.decided
        targeted = {cell.channel for cell in day.volume if cell.target is not None}
        assert targeted == {"push", "email", "in_app"}
        assert {"generate", "process", "process.rank", "process.decide"} <= set(day.stages)
    assert result.opens.sent > 0
    assert result.opens.opened > 0
    assert result.messages
    assert all(message.title.startswith(("Film", "Have you seen")) for message in result.messages)


@pytest.mark.timeout(300)
async def test_caps_and_repeats_over_days(start_system: StartSystem, made: MovieLens) -> None:
    """Invariants 3 and 5 as a user sees them: at most the cap a day, no film twice."""
    result = await _replayed(start_system, made, ReplayOptions(days=3, target=3.0))
    sends = result.sends
    assert len(sends) > 60
    per_day = Counter((send.user, send.day) for send in sends)
    assert max(per_day.values()) <= CAP_PER_DAY
    assert len({(send.user, send.item) for send in sends}) == len(sends)
