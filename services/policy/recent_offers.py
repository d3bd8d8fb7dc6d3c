"""What a cell was offered lately, and which of it tells what will be offered next.

Utilities differ by the hour: who is reached at nine in the morning opens other things than at
night. So a threshold is read off what came a day ago in the hours that come next.
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

        Those of the last 24 hours from the oldest on, HORIZON of them and LEAST_OFFERS at least;
        all of them as long as no whole day is known.
        """
        day = [one for one in self.batches if one.time > now - DAY]
        if len(day) < len(self.batches):
            day = _first(day)
        newest: dict[int, float] = {}
        for one in day:
            newest.update(zip(one.users, one.utilities, strict=True))
        return np.fromiter(newest.values(), np.float64, len(newest))


def _first(batches: Sequence[OfferBatch]) -> list[OfferBatch]:
    wanted = max(LEAST_OFFERS, HORIZON * sum(one.count for one in batches))
    found: list[OfferBatch] = []
    reached = 0
    for one in batches:
        if reached >= wanted:
            break
        found.append(one)
        reached += one.count
    return found
