"""Features of users at one moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.items import ItemTable
from services.ranker.features.schema import (
    SEQUENCES,
    STEPS,
    TYPE_COUNTS,
    WINDOWS_HOURS,
    Features,
)
from services.ranker.features.state import LEDGER, STEP, FeatureState
from services.ranker.features.vocabulary import (
    TYPE_BUCKETS,
    Counter,
    locale_bucket,
    segment_bucket,
)

MOST_RELATIVE_SHARE = 8.0
Moments: TypeAlias = int | NDArray[np.int64]
"""Seconds since 1970: one time, or one for each row."""
_KIND_OF_COUNTER = np.array([min(counter // 3, 3) for counter in Counter])


@dataclass(frozen=True, slots=True)
class UserSignals:
    """What policy knows of a user at the call. Empty texts take the defaults new, UTC and en."""

    segment: str = ""
    time_zone: str = ""
    locale: str = ""
    hour_profile: Sequence[float] | None = None
    """168 shares of activity from Monday 00:00 local, finite and ≥ 0. None or all 0: unknown."""


def user_features(
    states: Sequence[FeatureState],
    signals: Sequence[UserSignals],
    now: Moments,
    items: ItemTable,
    deliver_time: Moments | None = None,
) -> Features:
    """USER_FEATURES of users [U] as they are at `now`, for a delivery at `deliver_time` (now), both
    either of all of them or of each.

    Entries later than `now` are left out. Items are referred to by their current content.
    """
    now = np.broadcast_to(now, len(states))
    at = now if deliver_time is None else np.broadcast_to(deliver_time, len(states))
    zones = [user.time_zone for user in signals]
    hours = np.array(list(map(hour_of_week, at.tolist(), zones)), np.int32)
    features: Features = {
        "segment": np.array([segment_bucket(user.segment) for user in signals], np.int32),
        "locale": np.array([locale_bucket(user.locale) for user in signals], np.int32),
        "hour_of_week": hours,
        "hour_profile": _profiles(signals, hours),
    }
    features["counts"], features["type_counts"] = _counts(states, now)
    return features | _sequences(states, now, items)


def hour_of_week(moment: int, time_zone: str) -> int:
    """Local hour of the week, 0 for Monday 00:00–01:00. An unknown time zone counts as UTC."""
    local = datetime.fromtimestamp(moment, UTC).astimezone(_zone(time_zone))
    return local.weekday() * 24 + local.hour


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def _profiles(signals: Sequence[UserSignals], hours: NDArray[np.int32]) -> NDArray[np.float32]:
    """The columns of PROFILE_NUMBERS [U, 4]."""
    numbers = np.zeros((len(signals), 4))
    for row, (user, hour) in enumerate(zip(signals, hours.tolist(), strict=True)):
        total = 0.0 if user.hour_profile is None else float(sum(user.hour_profile))
        if user.hour_profile is None or not total > 0:
            continue
        week = np.asarray(user.hour_profile, np.float64).reshape(7, 24) / total
        day, hour = divmod(hour, 24)
        shares = (week[day, hour] * 168, week[:, hour].sum() * 24, week[day].sum() * 7)
        numbers[row] = (1.0, *shares)
    return np.minimum(numbers, MOST_RELATIVE_SHARE).astype(np.float32)


def _counts(
    states: Sequence[FeatureState], now: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """`counts` [U, counters, windows] and `type_counts` [U, types, 3] from the ledgers."""
    users, counters, windows = len(states), len(Counter), len(WINDOWS_HOURS)
    row, ledger = _joined([state.ledger for state in states], LEDGER)
    counts = np.zeros((users, counters, windows), np.int32)
    types = np.zeros((users, TYPE_BUCKETS, len(TYPE_COUNTS)), np.int32)
    age = (now // 3600)[row] - ledger["hour"]
    counter = ledger["counter"].astype(np.int64)
    for column, hours in enumerate(WINDOWS_HOURS):
        seen = (age >= 0) & (age < hours)
        cells = row[seen] * counters + counter[seen]
        found = np.bincount(cells, minlength=users * counters)
        counts[:, :, column] = found.reshape(users, counters)
    kind = _KIND_OF_COUNTER[counter]
    seen &= kind < len(TYPE_COUNTS)
    cells = (row[seen] * TYPE_BUCKETS + ledger["type"][seen]) * len(TYPE_COUNTS) + kind[seen]
    types[:] = np.bincount(cells, minlength=types.size).reshape(types.shape)
    return counts, types


def _sequences(
    states: Sequence[FeatureState], now: NDArray[np.int64], items: ItemTable
) -> Features:
    """The arrays of all sequences, newest step first, padded with zeros to 64 steps. Those of one
    sequence lie in one piece, of all users."""
    shape = len(SEQUENCES), len(states), STEPS
    row, steps = _joined([state.sequence(name) for name in SEQUENCES for state in states], STEP)
    since = np.tile(now, len(SEQUENCES))[row] - steps["time"]
    seen = since >= 0
    row, steps, since = row[seen], steps[seen], since[seen]
    cells = row * STEPS + np.arange(len(row)) - np.searchsorted(row, row)

    def padded(values: NDArray[Any], dtype: str) -> NDArray[Any]:
        array = np.zeros(shape, dtype)
        array.ravel()[cells] = values
        return array

    arrays = {
        "kinds": padded(steps["kind"], "uint8"),
        "channels": padded(steps["channel"], "uint8"),
        "types": padded(steps["type"], "uint8"),
        "ages": padded(np.minimum(since, 2**31 - 1), "int32"),
        "delays": padded(steps["delay"], "int32"),
        "items": padded(items.refs(steps["item"]), "int64"),
    }
    return {
        f"{name}_{feature}": array[number]
        for number, name in enumerate(SEQUENCES)
        for feature, array in arrays.items()
    }


def _joined(
    parts: Sequence[NDArray[Any]], dtype: np.dtype[Any]
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Rows of all parts, with the part of each. NumPy itself takes its time with records."""
    row = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return row, np.frombuffer(b"".join([part.data for part in parts]), dtype)
