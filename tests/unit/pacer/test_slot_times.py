"""Which slots a user may wait for next."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from services.pacer.slot_times import offers, slot_id

NOW = datetime(2026, 1, 5, 8, 30, 30, tzinfo=UTC)
TIMES = st.lists(
    st.datetimes(datetime(2026, 1, 4), datetime(2026, 1, 7), timezones=st.just(UTC)), max_size=8
)


def test_slot_id_is_the_minute_in_utc() -> None:
    assert slot_id(datetime(2026, 1, 5, 9, tzinfo=UTC)) == "20260105T0900"
    far_east = timezone(timedelta(hours=14))
    assert slot_id(datetime(2026, 1, 6, 9, tzinfo=far_east)) == "20260105T1900"


@given(TIMES, TIMES, st.timedeltas(timedelta(seconds=1), timedelta(days=1)))
def test_offers_are_ahead_sorted_and_never_none(
    first: list[datetime], second: list[datetime], fallback: timedelta
) -> None:
    found = offers("ann", NOW, fallback, first, second)
    times = [offer.time for offer in found]
    assert times
    assert times == sorted(set(times))
    assert all(time > NOW for time in times)
    assert all(offer.slot_id == slot_id(offer.time) for offer in found)
    assert len({offer.slot_id for offer in found}) == len(found)
    minutes = {time.replace(second=0, microsecond=0) for time in first + second}
    assert {time for time in minutes if time > NOW} <= set(times)


def test_last_resort_is_after_the_delay() -> None:
    (only,) = offers("ann", NOW, timedelta(hours=6))
    assert only.time == datetime(2026, 1, 5, 14, 31, tzinfo=UTC)


def test_last_resort_never_comes_before_the_users_own_slots() -> None:
    tomorrow = NOW.replace(second=0) + timedelta(hours=20)
    first, last = offers("ann", NOW, timedelta(hours=6), [tomorrow])
    assert first.time == tomorrow
    assert last.time > tomorrow
