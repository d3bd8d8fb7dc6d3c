"""Next slot times in local hours, over changes of the clocks."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy.slots import is_time_zone, next_slot_times

ZONES = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Africa/Cairo",
]
HOURS = st.lists(st.integers(0, 23), min_size=1, max_size=24)
MOMENTS = st.datetimes(
    datetime(2010, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)
)  # fmt: skip


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_slots_stand_at_the_local_hours() -> None:
    now = utc("2026-01-05T13:30:00")

    found = next_slot_times(now, "America/New_York", [9, 13, 19], 4)

    assert found == [
        utc("2026-01-05T14:00:00"),
        utc("2026-01-05T18:00:00"),
        utc("2026-01-06T00:00:00"),
        utc("2026-01-06T14:00:00"),
    ]


def test_a_slot_that_is_now_is_not_a_next_one() -> None:
    now = utc("2026-01-05T09:00:00")

    assert next_slot_times(now, "UTC", [9], 1) == [utc("2026-01-06T09:00:00")]


def test_a_local_hour_that_the_clocks_skip_is_moved_on() -> None:
    now = utc("2026-03-08T05:30:00")  # 00:30 in New York; 02:00 jumps to 03:00

    found = next_slot_times(now, "America/New_York", [2, 3], 3)

    assert found == [
        utc("2026-03-08T07:00:00"),
        utc("2026-03-09T06:00:00"),
        utc("2026-03-09T07:00:00"),
    ]


def test_a_local_hour_that_comes_twice_is_one_slot_at_its_first_time() -> None:
    now = utc("2026-11-01T04:30:00")  # 00:30 in New York; 01:00 comes at 05:00Z and 06:00Z

    found = next_slot_times(now, "America/New_York", [1], 2)

    assert found == [utc("2026-11-01T05:00:00"), utc("2026-11-02T06:00:00")]


def test_a_date_that_a_zone_skips_has_no_slots_of_its_own() -> None:
    now = utc("2011-12-30T01:00:00")  # 29 December in Apia, where the 30th did not happen

    found = next_slot_times(now, "Pacific/Apia", [9, 18], 4)

    local = [moment.astimezone(ZoneInfo("Pacific/Apia")) for moment in found]
    assert [(at.day, at.hour) for at in local] == [(29, 18), (31, 9), (31, 18), (1, 9)]


@given(MOMENTS, st.sampled_from(ZONES), HOURS, st.integers(1, 50))
def test_slots_are_ahead_ordered_distinct_and_at_the_hours(
    now: datetime, zone: str, hours: list[int], count: int
) -> None:
    found = next_slot_times(now, zone, hours, count)

    assert len(found) == count
    assert found[0] > now
    assert all(a < b for a, b in pairwise(found))
    for moment in found:
        local = moment.astimezone(ZoneInfo(zone))
        skipped = any(
            local.replace(tzinfo=None) - shift == _wall(local, hour)
            for hour in hours
            for shift in (timedelta(minutes=30), timedelta(hours=1), timedelta(days=1))
        )
        assert (local.hour in hours and local.minute == 0) or skipped


@given(MOMENTS, st.sampled_from(ZONES), HOURS)
def test_asking_from_a_slot_on_goes_on_with_the_next(
    now: datetime, zone: str, hours: list[int]
) -> None:
    first, second, third = next_slot_times(now, zone, hours, 3)

    assert next_slot_times(first, zone, hours, 2) == [second, third]
    assert next_slot_times(first - timedelta(microseconds=1), zone, hours, 1) == [first]


def _wall(local: datetime, hour: int) -> datetime:
    return datetime(local.year, local.month, local.day, hour)


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "Etc/GMT+12"])
def test_zone_names_that_are_known(name: str) -> None:
    assert is_time_zone(name)


@pytest.mark.parametrize("name", ["Mars/Base", "../etc/passwd", "/etc/localtime", "Europe", "a\0b"])
def test_zone_names_that_are_not(name: str) -> None:
    assert not is_time_zone(name)
