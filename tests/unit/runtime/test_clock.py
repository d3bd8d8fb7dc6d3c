"""The clock: wall time outside simulation, the request's time inside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.clock import Clock, at, current_moment, format_time, parse_time
from services.runtime.errors import InvalidArgument

MARCH = datetime(2026, 3, 1, 8, tzinfo=UTC)


def test_outside_simulation_the_contexts_time_is_ignored() -> None:
    clock = Clock()
    with at(MARCH):
        assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_in_simulation_the_contexts_time_counts() -> None:
    clock = Clock(simulation=True)
    with at(MARCH):
        assert clock.now() == MARCH
        with at(MARCH + timedelta(days=1)):
            assert clock.now() == MARCH + timedelta(days=1)
        assert clock.now() == MARCH
    assert current_moment() is None


def test_without_a_time_the_latest_one_seen_counts() -> None:
    clock = Clock(simulation=True)
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert clock.observe(MARCH)
    assert clock.now() == MARCH


def test_an_earlier_request_moves_nothing() -> None:
    clock = Clock(simulation=True)
    assert clock.observe(MARCH)
    assert not clock.observe(MARCH - timedelta(seconds=1))
    assert not clock.observe(MARCH)
    assert clock.now() == MARCH


@given(
    st.datetimes(
        min_value=datetime(1970, 1, 2),
        max_value=datetime(2200, 1, 1),
        timezones=st.integers(-12, 14).map(lambda hours: timezone(timedelta(hours=hours))),
    )
)
def test_a_time_survives_the_metadata(moment: datetime) -> None:
    text = format_time(moment)
    assert parse_time(text) == moment
    assert parse_time(text).tzinfo is UTC
    assert len(text) == len("2026-03-01T08:00:00.000000Z")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2026-03-01",
        "2026-03-01T08:00:00",
        "1772352000",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
    ],
)
def test_what_is_not_a_time_with_a_zone_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_time(text)
    assert refused.value.fields[0].path == "heliograph-time"


def test_a_naive_time_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="time zone"), at(datetime(2026, 3, 1)):
        pass
