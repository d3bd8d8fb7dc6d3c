"""Next slot times: a recipient's hours of the day, in their own time zone, as points in time."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo


@lru_cache(maxsize=1024)
def is_time_zone(name: str) -> bool:
    """Whether `name` is an IANA time zone that this machine's database knows."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, malformed, a folder of the database
        return False
    return True


def next_slot_times(
    now: datetime, time_zone: str, hours: Sequence[int], count: int
) -> list[datetime]:
    """The next `count` slots strictly after `now` (aware), soonest first, in UTC.

    `hours` are local hours of the day, 0–23, at least one. A local time that a change of the clocks
    skips is moved on by the change (02:00 becomes 03:00); one that happens twice counts the first
    time. Slots that fall together so are one slot.
    """
    if not hours or count <= 0:
        return []
    return list(_next_slot_times(now, time_zone or "UTC", tuple(sorted(set(hours))), count))


# Users of a batch are asked about at one moment, and most share zone and hours.
@lru_cache(maxsize=4096)
def _next_slot_times(
    now: datetime, time_zone: str, hours: tuple[int, ...], count: int
) -> tuple[datetime, ...]:
    zone = ZoneInfo(time_zone)
    # The slots of a day are never more than a day off its date, even where a zone skips a date.
    day = now.astimezone(zone).date() - timedelta(days=1)
    found: list[datetime] = []
    while len(found) < count:
        last = found[-1] if found else now
        found.extend(moment for moment in _slots_of_day(day, zone, hours) if moment > last)
        day += timedelta(days=1)
    return tuple(found[:count])


def _slots_of_day(day: date, zone: ZoneInfo, hours: Sequence[int]) -> list[datetime]:
    local = (datetime.combine(day, time(hour), zone) for hour in hours)
    return sorted({moment.astimezone(UTC) for moment in local})
