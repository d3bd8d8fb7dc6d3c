"""Activeness segments: a pure function of when a user joined and on which days they were active.

Activity is a session, an open or a click, on a UTC day. It is kept as a bitmap of 64 days: bit k is
set when the user was active k days before the bitmap's own day.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

BITMAP_DAYS = 64
NEW_DAYS = 14
QUIET_DAYS = 28
RECENT_DAYS = 7
CORE_ACTIVE_DAYS = 8
CASUAL_ACTIVE_DAYS = 3

_FULL = (1 << BITMAP_DAYS) - 1
_SIGN = 1 << (BITMAP_DAYS - 1)


class Segment(StrEnum):
    """Group of users by activeness."""

    NEW = "new"
    CORE = "core"
    CASUAL = "casual"
    MARGINAL = "marginal"
    DORMANT = "dormant"
    RESURRECTED = "resurrected"


@dataclass(frozen=True, slots=True)
class ActiveDays:
    """Days of activity: bit k of `bits` (unsigned, 64) stands for `last_day` − k days."""

    last_day: date
    bits: int = 0

    def marked(self, day: date) -> "ActiveDays":
        """The same with `day` active. A day more than 63 days before the newest is forgotten."""
        moved = self.until(max(day, self.last_day))
        age = (moved.last_day - day).days
        return ActiveDays(moved.last_day, moved.bits | (1 << age & _FULL))

    def until(self, day: date) -> "ActiveDays":
        """The same activity seen from `day`; activity after it is left out."""
        days = (day - self.last_day).days
        bits = self.bits << days if days >= 0 else self.bits >> -days
        return ActiveDays(day, bits & _FULL)

    def count(self, days: int) -> int:
        """Active days among the last `days`, the newest day included."""
        return (self.bits & ((1 << days) - 1)).bit_count()

    def signed(self) -> int:
        """The bits as the signed 64-bit number that a bigint column holds."""
        return self.bits - (1 << BITMAP_DAYS) if self.bits & _SIGN else self.bits

    @staticmethod
    def from_signed(last_day: date, bits: int) -> "ActiveDays":
        """Reads what `signed` wrote."""
        return ActiveDays(last_day, bits & _FULL)


def segment_of(create_day: date, active: ActiveDays, today: date) -> Segment:
    """The segment on `today` (UTC); the first rule that matches, in this order.

    new: joined less than 14 days ago. dormant: no activity in the last 28 days. resurrected: active
    in the last 7 days, and nothing in the 28 days before the first of those, of which the user was
    there for all. core: active on 8 or more of the last 28 days. casual: on 3 to 7. marginal:
    on 1 or 2.
    """
    if today - create_day < timedelta(days=NEW_DAYS):
        return Segment.NEW
    seen = active.until(today)
    active_count = seen.count(QUIET_DAYS)
    if active_count == 0:
        return Segment.DORMANT
    if _came_back(create_day, seen):
        return Segment.RESURRECTED
    if active_count >= CORE_ACTIVE_DAYS:
        return Segment.CORE
    if active_count >= CASUAL_ACTIVE_DAYS:
        return Segment.CASUAL
    return Segment.MARGINAL


def _came_back(create_day: date, seen: ActiveDays) -> bool:
    recent = seen.bits & ((1 << RECENT_DAYS) - 1)
    if not recent:
        return False
    first_age = recent.bit_length() - 1
    quiet = seen.bits >> (first_age + 1) & ((1 << QUIET_DAYS) - 1)
    return quiet == 0 and create_day <= seen.last_day - timedelta(days=first_age + QUIET_DAYS)
