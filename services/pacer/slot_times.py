"""Which slot a user waits for next."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class SlotKey:
    """One slot of one user; `time` is when it is due."""

    user_id: str
    slot_id: str
    time: datetime


def slot_id(time: datetime) -> str:
    """Natural key of a slot: its minute in UTC, e.g. `20260105T0900`."""
    return time.astimezone(UTC).strftime("%Y%m%dT%H%M")


def offers(
    user_id: str,
    now: datetime,
    fallback: timedelta,
    *proposals: Iterable[datetime],
) -> list[SlotKey]:
    """The user's possible next slots after `now`, soonest first, each once, at whole minutes.

    The last resort is the minute `fallback` after all others, or from now when there are none: the
    user's own slots come first. Several are offered because a slot that was processed before it
    was due is still ahead and must not be opened again.
    """
    ahead = {time for times in proposals for time in map(_minute, times) if time > now}
    last_resort = max(ahead, default=now) + fallback + timedelta(minutes=1)
    return [
        SlotKey(user_id, slot_id(time), time) for time in sorted(ahead | {_minute(last_resort)})
    ]


def _minute(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(second=0, microsecond=0)
