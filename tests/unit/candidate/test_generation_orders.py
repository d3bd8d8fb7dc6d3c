"""Which days can be generated."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from heliograph.candidate.v1alpha1 import generating_pb2

from services.candidate.handlers.generating import read_order
from services.runtime.errors import InvalidArgument

TODAY = date(2026, 1, 5)


@pytest.mark.parametrize("days", [-6, -1, 0, 1])
def test_days_from_last_week_to_tomorrow_can_be_generated(days: int) -> None:
    day = TODAY + timedelta(days=days)
    order = read_order(generating_pb2.GenerateDailyRequest(day=day.isoformat()), TODAY)
    assert order.day == day


@pytest.mark.parametrize(
    ("day", "problem"),
    [
        ("2025-12-29", "forgotten"),
        ("2026-01-07", "later than tomorrow, 2026-01-06"),
        ("2027-01-05", "later than tomorrow"),
        ("9999-12-31", "later than tomorrow"),
        ("2026-02-30", "is not a day"),
    ],
)
def test_other_days_are_refused_by_their_field(day: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem) as caught:
        read_order(generating_pb2.GenerateDailyRequest(day=day), TODAY)
    assert [field.path for field in caught.value.fields] == ["day"]
