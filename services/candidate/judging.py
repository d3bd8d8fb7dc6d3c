"""From relevance to scores: who is left out, and the factors of the others. Columnar."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from services.candidate.bounds import greatest_factor
from services.candidate.budget_columns import BudgetColumns
from services.candidate.expressions import BoosterProgram, Columns, FilterProgram
from services.candidate.questions import BudgetUse, Omission
from services.candidate.rotation import Recent
from services.candidate.sources.arrays import Floats, Rows


@dataclass(frozen=True, eq=False, slots=True)
class Judged:
    """What came of the judgement."""

    scores: Floats
    """Relevance times all factors but that of diversity, at least 0; −inf for who is left out."""
    omissions: Mapping[Omission, int]
    """Among the rows judged."""


@dataclass(frozen=True, eq=False, slots=True)
class Judge:
    """All that scores depend on besides relevance."""

    columns: Columns
    moment: datetime
    min_relevance: float
    filter: FilterProgram | None
    booster: BoosterProgram | None
    recent: Recent | None
    """What was recently returned; None: no rotation."""
    budgets: BudgetColumns | None
    """None: not asked for, or unknown."""
    budget_use: BudgetUse

    @property
    def greatest_factor(self) -> float:
        """No score is greater than its relevance times this. Only a booster's factors may be above
        1."""
        return 1.0 if self.booster is None else greatest_factor(self.booster, self.columns)

    def judge(self, rows: Rows, relevance: Floats) -> Judged:
        """Scores of some rows (ascending) from their relevance, which stays as it is."""
        omissions: Counter[Omission] = Counter()
        places = np.flatnonzero(relevance >= 0.0)
        omissions[Omission.INELIGIBLE] = len(rows) - len(places)
        places = self._left(places, rows, relevance, omissions)
        kept = rows[places]
        scores = np.full(len(rows), -np.inf, np.float32)
        scores[places] = self._factored(kept, relevance[places])
        return Judged(scores, {reason: count for reason, count in omissions.items() if count})

    def _left(
        self, places: Rows, rows: Rows, relevance: Floats, omissions: Counter[Omission]
    ) -> Rows:
        kept = places[relevance[places] >= self.min_relevance]
        omissions[Omission.MIN_RELEVANCE] = len(places) - len(kept)
        if self.filter is not None:
            matches = self.filter.evaluate(self.columns, self.moment, rows[kept]).matches
            omissions[Omission.FILTER] = len(kept) - int(np.count_nonzero(matches))
            kept = kept[matches]
        if self.budgets is not None and self.budget_use is BudgetUse.EXCLUDE:
            left = np.ones(len(kept), np.bool_)
            for reason, blocked in self.budgets.obstacles(rows[kept]):
                omissions[reason] = int(np.count_nonzero(left & blocked))
                left &= ~blocked
            kept = kept[left]
        return kept

    def _factored(self, rows: Rows, scores: Floats) -> Floats:
        """In place."""
        if self.booster is not None:
            scores *= self.booster.evaluate(self.columns, self.moment, rows).factors
        if self.budgets is not None and self.budget_use is BudgetUse.DISCOUNT:
            scores *= self.budgets.discounts(rows)
        if self.recent is not None:
            self.recent.apply(rows, scores)
        return scores
