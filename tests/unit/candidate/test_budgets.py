"""When budgets are read again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest.mock import AsyncMock, Mock

import pytest

from services.candidate.budget import Budgets

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.mark.parametrize(("taken", "age", "again"), [(1, 25, False), (1, 31, True), (20, 12, True)])
async def test_what_takes_long_to_read_is_read_again_sooner(
    monkeypatch: pytest.MonkeyPatch, taken: float, age: float, again: bool
) -> None:
    """So that the next reading is done before this one is a minute old."""
    seconds = Mock(side_effect=[0.0, 0.0, taken, 50.0, 50.0, 50.0])
    clock = Mock(now=Mock(return_value=NOW), monotonic=seconds)
    budgets = Budgets(Mock(), Mock(), clock, Mock(), pool_size=3)
    columns = Mock(read_time=NOW, aligned=lambda _: columns)
    reading = AsyncMock(return_value=columns)
    monkeypatch.setattr(budgets, "_read_columns", reading)
    catalogue = Mock()
    assert await budgets.current(catalogue) is columns
    await budgets.keep_fresh(catalogue, NOW + timedelta(seconds=age))
    assert reading.await_count == 1 + again
