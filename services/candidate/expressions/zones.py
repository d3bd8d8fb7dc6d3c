"""Local time in a time zone, for many times at once."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_SECOND = 10**6
_WEEK = 7 * 86_400 * _SECOND
_FIXED = re.compile(r"([+-]?)(\d\d):(\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WEEKS = 256
_BLOCK = _WEEKS * _WEEK
"""About five years; times are looked up block by block."""
_EARLIEST, _LATEST = -62_135_510_400, 253_402_214_400
"""Seconds, a day inside the range of Python's times."""


def zone_fault(zone: str) -> str | None:
    """What is wrong with a zone's name; None if it is known."""
    if fixed := _FIXED.fullmatch(zone):
        return None if int(fixed[2]) <= 14 and int(fixed[3]) < 60 else "the offset is too large"
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        return 'it is neither a name such as "Europe/Prague" nor an offset such as "+05:30"'
    return None


def local_time(times: Ints, zone: str) -> Ints:
    """Microseconds since 1970 on the zone's own clock, from microseconds since 1970 in UTC."""
    if zone == "UTC":
        return times
    if fixed := _FIXED.fullmatch(zone):
        minutes = int(fixed[2]) * 60 + int(fixed[3])
        return times + (-minutes if fixed[1] == "-" else minutes) * 60 * _SECOND
    blocks = times // _BLOCK
    lowest = int(blocks.min(initial=0))
    local = np.empty_like(times)
    for block in (np.flatnonzero(np.bincount(blocks - lowest)) + lowest).tolist():
        changes, before, after = _block(zone, block)
        chosen = blocks == block
        own = times[chosen]
        index = own // _WEEK - block * _WEEKS
        early = own < changes.take(index)
        local[chosen] = own + np.where(early, before.take(index), after.take(index))
    return local


@lru_cache(maxsize=4096)
def _block(zone: str, block: int) -> tuple[Ints, Ints, Ints]:
    """`_week` for all weeks of a block."""
    weeks = range(block * _WEEKS, (block + 1) * _WEEKS)
    changes, before, after = np.array([_week(zone, week) for week in weeks], np.int64).T
    return np.ascontiguousarray(changes), np.ascontiguousarray(before), np.ascontiguousarray(after)


def _week(zone: str, week: int) -> tuple[int, int, int]:
    """When the zone's offset changes in this week (counted from 1970), and the offset before and
    after, in microseconds. No zone changes twice in a week."""
    low, high = week * _WEEK // _SECOND, (week + 1) * _WEEK // _SECOND
    before, after = _offset(zone, low), _offset(zone, high)
    while high - low > 1 and before != after:
        middle = (low + high) // 2
        if _offset(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high * _SECOND, before, after


def _offset(zone: str, seconds: int) -> int:
    moment = _EPOCH + timedelta(seconds=min(max(seconds, _EARLIEST), _LATEST))
    offset = ZoneInfo(zone).utcoffset(moment.astimezone(ZoneInfo(zone)))
    return 0 if offset is None else round(offset.total_seconds() * _SECOND)
