"""What a cell was offered lately, and which of it tells what will be offered next.

Utilities differ by the hour: who is reached at nine in the morning opens other things than at
night. So a threshold is read off what came a day ago in the hours that come next. They also differ
from day to day, with what users were sent, or with the model: so those are moved and stretched as
the latest offers differ from what came a day before them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from services.policy.batch import Floats

DAY = timedelta(days=1)
READ_BACK = 2 * DAY
"""What is looked at: the day that tells, and one before it that tells whether it is whole."""
HORIZON = 0.2
"""Share of a day's offers that is looked ahead."""
LEAST_OFFERS = 30
"""Offers that are looked ahead at least."""


@dataclass(frozen=True, slots=True)
class OfferBatch:
    """What one batch of decisions offered to a cell."""

    time: datetime
    count: int
    users: Sequence[int]
    """Hashes of the users sampled."""
    utilities: Sequence[float]


@dataclass(frozen=True, slots=True)
class RecentOffers:
    """Batches of one cell, oldest first."""

    batches: Sequence[OfferBatch] = ()

    def since(self, moment: datetime | None) -> int:
        """How many offers came from `moment` on: in simulated time the tick of a moment comes
        before its decisions."""
        return sum(one.count for one in self.batches if moment is None or one.time >= moment)

    def ahead(self, now: datetime) -> Floats:
        """Utilities like those to be expected from `now` on, each user's newest counted once.

        Those of the last 24 hours from the oldest on, HORIZON of them and LEAST_OFFERS at least,
        brought up to date; all of them as long as no whole day is known.
        """
        today = [one for one in self.batches if one.time >= now - DAY]
        before = self.batches[: len(self.batches) - len(today)]
        if not before:
            return _newest(today)
        latest = _first(today[::-1], today)
        since = min((one.time for one in latest), default=now)
        counterpart = _newest([one for one in before if one.time >= since - DAY])
        return _moved(_newest(_first(today, today)), counterpart, _newest(latest))


def _first(batches: Sequence[OfferBatch], day: Sequence[OfferBatch]) -> list[OfferBatch]:
    """The first batches that make up HORIZON of a day's offers."""
    wanted = max(LEAST_OFFERS, HORIZON * sum(one.count for one in day))
    found: list[OfferBatch] = []
    reached = 0
    for one in batches:
        if reached >= wanted:
            break
        found.append(one)
        reached += one.count
    return found


def _newest(batches: Sequence[OfferBatch]) -> Floats:
    newest: dict[int, float] = {}
    for one in sorted(batches, key=lambda batch: batch.time):
        newest.update(zip(one.users, one.utilities, strict=True))
    return np.fromiter(newest.values(), np.float64, len(newest))


def _moved(values: Floats, old: Floats, new: Floats) -> Floats:
    """Values moved by the difference of the medians and stretched by the ratio of the quartile
    distances from `old` to `new`; less so when these are few."""
    if not len(old) or not len(new):
        return values
    trust = min(len(old), len(new)) / (min(len(old), len(new)) + LEAST_OFFERS)
    low, middle, high = np.quantile(old, (0.25, 0.5, 0.75))
    new_low, new_middle, new_high = np.quantile(new, (0.25, 0.5, 0.75))
    stretch = 1.0
    if high > low and new_high > new_low:
        stretch = float(((new_high - new_low) / (high - low)) ** trust)
    centre = middle + trust * (new_middle - middle)
    found: Floats = centre + (values - middle) * stretch
    return found
