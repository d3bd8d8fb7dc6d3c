"""For whom a source is worth asking, learned from what it has yielded.

Each source is a bet on each group of users (see Activity): of what share of them will at least one
candidate become an event? Where even an optimistic estimate of that share is too small, the source
is skipped for the group, but for a small random share of users by whom a change is noticed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from services.candidate.sources.arrays import Mask, Rows
from services.candidate.sources.segments import Activity

Table = npt.NDArray[np.float64]
"""Groups of users × sources."""
OPTIMISM = 0.95
"""Quantile of the posterior that is held against the least availability."""
MOST_PER_DAY = 200.0
"""A day counts for at most so many users: what limits its say about tomorrow is drift, not the
size of the sample, and a few explored users must be able to outweigh a large day of the past."""


@dataclass(eq=False, slots=True)
class Yields:
    """What sources made of users, by group × source."""

    asked: Table
    """Users for whom the source was asked."""
    productive: Table
    """Those of them with at least one candidate that became an event."""
    accepted: Table
    """Candidates that became events."""
    accepted_squares: Table
    """Sum over users of the square of their accepted candidates."""
    skipped: Table
    """Users for whom the source had been worth asking and was skipped."""
    seconds: Table
    """How long asking took."""

    @classmethod
    def none(cls, sources: int) -> Self:
        """Nothing counted yet."""
        return cls(*(np.zeros((len(Activity), sources)) for _ in range(6)))

    @classmethod
    def counted(
        cls, groups: Rows, asked: Mask, skipped: Mask, accepted: Rows, seconds: Table
    ) -> Self:
        """Count users: their groups, and users × sources tables of who was asked and skipped and
        of accepted candidates; `seconds` by source are shared out evenly over its users."""

        def by_group(values: npt.NDArray[np.generic]) -> Table:
            total = np.zeros((len(Activity), values.shape[1]))
            np.add.at(total, groups, values.astype(np.float64))
            return total

        users = by_group(asked)
        return cls(
            asked=users,
            productive=by_group(accepted > 0),
            accepted=by_group(accepted),
            accepted_squares=by_group(accepted**2),
            skipped=by_group(skipped),
            seconds=users * seconds / np.maximum(users.sum(axis=0), 1),
        )

    def add(self, other: "Yields", factor: float | Table = 1.0) -> None:
        """Add another's counts, scaled."""
        for name in self.__slots__:
            getattr(self, name).__iadd__(getattr(other, name) * factor)


@dataclass(frozen=True, slots=True)
class AvailabilityOptions:
    """When to skip, how to learn, and how to explore."""

    least: float = 0.02
    """Share of users, below which a source is skipped for a group; 0: never."""
    half_life_days: float = 2.0
    """After how many days what was seen counts half."""
    exploration_share: float = 0.03
    """Share of users for whom no source is skipped, others each day."""


@dataclass(frozen=True, eq=False, slots=True)
class Availability:
    """What is expected of each source, by group × source."""

    bound: Table
    """Share of users for whom the source has something, estimated optimistically: the quantile
    OPTIMISM of Beta(1 + productive, 1 + asked − productive) over the decayed past; .95 without
    one, so that what is new is tried."""
    skipped: Mask
    accepted: Table
    """Events per asked user in the decayed past."""
    seconds: Table
    """By source: seconds per asked user, of the days on which nobody was skipped: asking for a few
    costs more for each."""

    @classmethod
    def learn(
        cls, past: Iterable[tuple[float, Yields]], sources: int, options: AvailabilityOptions
    ) -> Self:
        """Learn from past days: their age in days, and what they yielded."""
        seen, full = Yields.none(sources), Yields.none(sources)
        for age, yields in past:
            decay = 0.5 ** (age / options.half_life_days)
            seen.add(yields, decay * np.minimum(1.0, MOST_PER_DAY / np.maximum(yields.asked, 1.0)))
            full.add(yields, decay * (yields.skipped == 0))
        missed = seen.asked - seen.productive
        bound = np.asarray(betaincinv(1 + seen.productive, 1 + missed, OPTIMISM), np.float64)
        return cls(
            bound=bound,
            skipped=bound < options.least,
            accepted=seen.accepted / np.maximum(seen.asked, 1e-9),
            seconds=full.seconds.sum(axis=0) / np.maximum(full.asked.sum(axis=0), 1e-9),
        )

    def lost(self, run: Yields) -> tuple[Table, Table]:
        """By source: events that a run is expected to have lost by skipping, and the standard
        error of that, from those whom it asked all the same.

        Where it asked nobody of a group, what the group yielded in the past is taken, with an
        error as large. Where none of n users had anything, the error is that of a rate of which
        nothing was seen: 1 / n for each user skipped.
        """
        asked = np.maximum(run.asked, 1.0)
        mean = np.where(run.asked > 0, run.accepted / asked, self.accepted)
        variance = np.maximum(run.accepted_squares / asked - mean**2, 0.0)
        error = np.maximum(np.sqrt(variance / np.maximum(asked - 1.0, 1.0)), 1.0 / asked)
        error = np.where(run.asked > 0, error, self.accepted)
        squares = (run.skipped * error) ** 2
        return (run.skipped * mean).sum(axis=0), np.sqrt(squares.sum(axis=0))

    def saved_seconds(self, run: Yields) -> Table:
        """By source: how much longer a run is expected to have taken without skipping."""
        own = run.seconds.sum(axis=0) / np.maximum(run.asked.sum(axis=0), 1.0)
        saved: Table = run.skipped.sum(axis=0) * np.where(self.seconds > 0, self.seconds, own)
        return saved
