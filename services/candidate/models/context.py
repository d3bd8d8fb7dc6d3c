"""What is known of a user or item beside taste: how active, how lately."""

from dataclasses import dataclass

import numpy as np

from services.candidate.models.interactions import Seconds
from services.candidate.sources.arrays import Floats, Rows

HALF_LIVES = (1 / 7, 1.0, 4.0)
"""Of the decayed counts, in horizons."""
HOURS = 3600.0


@dataclass(frozen=True, slots=True)
class Clock:
    """The time at which features are looked at, and how far ahead is predicted, in seconds."""

    now: float
    horizon: float


def context(rows: Rows, size: int, times: Seconds | None, clock: Clock | None) -> Floats:
    """Features of `size` users (or items) from the interactions of `rows`: size × features.

    Without times the logarithm of the count and its square. With times also the logarithms of the
    hours since the last interaction and of counts decayed by HALF_LIVES.
    """
    count = np.log1p(np.bincount(rows, minlength=size))
    if times is None or clock is None:
        return np.stack([count, count * count / 10], axis=1).astype(np.float32)
    last = np.full(size, clock.now - 100 * clock.horizon)
    np.maximum.at(last, rows, times)
    hours = np.log1p(np.maximum(clock.now - last, 0.0) / HOURS)
    decayed = [
        np.log(_decayed(rows, size, times, clock, half_life) + 0.05) for half_life in HALF_LIVES
    ]
    return np.stack([count, hours, *decayed], axis=1).astype(np.float32)


def _decayed(rows: Rows, size: int, times: Seconds, clock: Clock, half_life: float) -> Seconds:
    age = (clock.now - times) / (clock.horizon * half_life)
    return np.asarray(np.bincount(rows, np.exp2(-age), size), np.float64)
