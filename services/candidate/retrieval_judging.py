"""Filter and booster of users as a judge of exact search."""

from dataclasses import dataclass, field
from datetime import datetime
from math import inf

import numpy as np

from services.candidate.bounds import greatest_factor
from services.candidate.expressions import BoosterProgram, Columns, FilterProgram
from services.candidate.sources.arrays import Floats, Rows

ROUNDING = 1e-6
"""Eight times the rounding error of a float32."""


@dataclass(frozen=True, eq=False, slots=True)
class ExpressionJudge:
    """A compiled filter and booster over users' attributes, at one moment.

    A row is worth its score times the booster's factor, if its score is not below `min_score` and
    the filter matches.
    """

    columns: Columns
    now: datetime
    filter: FilterProgram | None = None
    """None: all rows match."""
    booster: BoosterProgram | None = None
    """None: all factors are 1."""
    min_score: float = 0.0
    """Least score, before the booster; at least 0, as a factor would raise what is below."""

    greatest_factor: float = field(init=False)
    """No row's factor is greater; infinite where that can't be told."""

    def __post_init__(self) -> None:
        if not self.min_score >= 0:
            raise ValueError("min_score must be 0 or more")
        bound = 1.0 if self.booster is None else greatest_factor(self.booster, self.columns)
        object.__setattr__(self, "greatest_factor", bound)

    def values(self, rows: Rows, scores: Floats) -> Floats:
        """Scores times factors; −inf for rows that don't match."""
        kept = np.flatnonzero(scores >= self.min_score)
        if self.filter is not None and len(kept):
            kept = kept[self.filter.evaluate(self.columns, self.now, rows[kept]).matches]
        worth = scores[kept]
        if self.booster is not None and len(kept):
            worth *= self.booster.evaluate(self.columns, self.now, rows[kept]).factors
        values: Floats = np.full(len(rows), -np.inf, np.float32)
        values[kept] = worth
        return values

    def least_score(self, value: float) -> float:
        """The score that the greatest factor would raise to the value, a hair lower for what the
        product of the two loses by rounding."""
        if self.greatest_factor == inf:
            return self.min_score
        return max(self.min_score, value / self.greatest_factor * (1.0 - ROUNDING))
