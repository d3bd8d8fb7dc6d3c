"""When budgets are read again, and at what pace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import numpy as np
import pytest

from services.candidate import budget_reading
from services.candidate.budget import Budgets
from services.candidate.budget_columns import BudgetColumns
from services.candidate.budget_reading import Pace
from services.runtime.clock import Clock

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
USERS = ["ann", "bea"]


class Ticking(Clock):
    """A clock that goes on by sleeping, and by working."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(simulation=False)
        self.seconds = 1000.0
        monkeypatch.setattr(budget_reading.asyncio, "sleep", self.sleep)

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds - 1000.0)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Reader:
    """Reads in so many pieces of so many seconds."""

    def __init__(self, clock: Ticking, pieces: int, seconds: float) -> None:
        self.clock, self.pieces, self.seconds = clock, pieces, seconds
        self.readings: list[float] = []
        """Seconds that each took."""

    async def read(self, user_ids: Sequence[str], pace: Pace) -> BudgetColumns:
        start = self.clock.now()
        for _ in range(self.pieces):
            self.clock.seconds += self.seconds
            await pace.give_way()
        self.readings.append((self.clock.now() - start).total_seconds())
        none = np.zeros(len(user_ids), np.uint8)
        return BudgetColumns(user_ids, none, none, none, none.astype(np.uint16), 3, start)


def budgets(reader: Reader) -> Budgets:
    return Budgets(reader, reader.clock, Mock())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "age", "again"), [(0.1, 38, False), (0.1, 40, True), (2, 23, False), (2, 25, True)]
)
async def test_what_takes_long_to_read_is_read_again_sooner(
    monkeypatch: pytest.MonkeyPatch, seconds: float, age: float, again: bool
) -> None:
    """So that the next reading is done, rests and all, before this one is a minute old."""
    reader = Reader(Ticking(monkeypatch), 2, seconds)
    read = budgets(reader)
    assert await read.current(USERS) is not None
    read_at = reader.clock.now() - timedelta(seconds=reader.readings[0])
    await read.keep_fresh(USERS, read_at + timedelta(seconds=age))
    assert len(reader.readings) == 1 + again


@pytest.mark.parametrize(
    ("pieces", "first", "refresh"), [(10, 2.0, 4.0), (100, 20.0, 20.0), (400, 50.0, 40.0)]
)
async def test_readings_rest_and_not_for_long(
    monkeypatch: pytest.MonkeyPatch, pieces: int, first: float, refresh: float
) -> None:
    """The first as long as it works, the next three times as long and not at all when work takes
    20 s; both in the first 20 s only."""
    reader = Reader(Ticking(monkeypatch), pieces, 0.1)
    read = budgets(reader)
    await read.current(USERS)
    await read.keep_fresh(USERS, reader.clock.now() + timedelta(seconds=50))
    assert reader.readings == pytest.approx([first, refresh], rel=0.02)


async def test_work_that_suddenly_takes_longer_rests_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """20 s with rests, in which two of the ten pieces are done."""
    reader = Reader(Ticking(monkeypatch), 10, 0.1)
    read = budgets(reader)
    await read.current(USERS)
    reader.seconds = 3.0
    await read.keep_fresh(USERS, reader.clock.now() + timedelta(seconds=50))
    assert reader.readings[1] == pytest.approx(20.0 + 8 * 3.0)


async def test_columns_are_aligned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(Ticking(monkeypatch), 1, 0.1)
    read = budgets(reader)
    first = await read.current(USERS)
    assert await read.current(USERS) is first
    later = ["ann", "bea", "cid"]
    one, other = await asyncio.gather(read.current(later), read.current(later))
    assert one is other
    assert one is not None
    assert one.user_ids is later
