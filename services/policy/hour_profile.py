"""When in the week a user is active: counts by local hour, and the smoothed share of each hour."""

from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

HOURS_OF_WEEK = 168
_NEIGHBOURS = 2
_WEEK_SHARE = 0.5
_PRIOR_COUNT = 8.0

Counts = NDArray[np.uint8]
Profile = NDArray[np.float32]


def no_counts() -> Counts:
    """Counts of a user of whom nothing is known: 168 zeros."""
    return np.zeros(HOURS_OF_WEEK, dtype=np.uint8)


def read_counts(stored: bytes) -> Counts:
    """Counts from their column: 168 bytes, or none at all."""
    return np.frombuffer(stored, dtype=np.uint8).copy() if stored else no_counts()


def hour_of_week(moment: datetime, time_zone: str) -> int:
    """0 for Monday 00:00–00:59 local to 167 for Sunday 23:00–23:59."""
    local = moment.astimezone(ZoneInfo(time_zone or "UTC"))
    return local.weekday() * 24 + local.hour


def counted(counts: Counts, hours: Iterable[int]) -> Counts:
    """The counts with one more for each hour of the week named.

    A byte each: when one would pass 255, all are halved first, which also lets old habits fade.
    """
    wide = counts.astype(np.uint16)
    for hour in hours:
        if wide[hour] == np.iinfo(np.uint8).max:
            wide //= 2
        wide[hour] += 1
    return wide.astype(np.uint8)


def profile(counts: Counts) -> Profile:
    """Share of activity by hour of week, [168], sums to 1; empty when nothing was counted.

    Counts are spread over neighbouring hours with a triangular kernel of ±2 hours, half of the
    weight goes to the same hour on all days (people keep hours more than weekdays), and a flat
    prior worth 8 reports is added.
    """
    if not counts.any():
        return np.zeros(0, dtype=np.float32)
    total = counts.astype(np.float64)
    offsets = range(-_NEIGHBOURS, _NEIGHBOURS + 1)
    weights = np.array([_NEIGHBOURS + 1 - abs(offset) for offset in offsets], dtype=np.float64)
    weights /= weights.sum()
    spread = np.sum(
        [weight * np.roll(total, offset) for weight, offset in zip(weights, offsets, strict=True)],
        axis=0,
    )
    by_hour = np.tile(spread.reshape(7, 24).mean(axis=0), 7)
    mixed = (1 - _WEEK_SHARE) * spread + _WEEK_SHARE * by_hour
    mixed += _PRIOR_COUNT / HOURS_OF_WEEK
    shares: Profile = (mixed / mixed.sum()).astype(np.float32)
    return shares
