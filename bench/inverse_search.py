"""Our search over bench.inverse's users in all its forms, its yardsticks, and brute force."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.inverse_data import BOOSTER, FILTER, NOW, SMOOTH_BOOSTER, Users, factors, matching
from services.candidate.expressions import compile_booster, compile_filter
from services.candidate.judging import Judge
from services.candidate.questions import BudgetUse
from services.candidate.retrieval import Best, Float32, top, top_of_each
from services.candidate.retrieval_judging import SearchJudge
from services.candidate.sources.arrays import Floats, Rows

COUNT = 50
BATCH = 64
CHECKED = 10
"""Items whose answers are compared with brute force, in each form."""
BOOSTERS = {"boosted": BOOSTER, "smooth_booster": SMOOTH_BOOSTER}
Values = NDArray[np.float64]
_ROWS = 50_000
"""Of brute force, at a time."""


class Peer(Protocol):
    """A rival."""

    def find(self, item: Floats) -> Rows:
        """Rows of the best."""

    def find_filtered(self, item: Floats) -> Rows:
        """Rows of the best that match the filter."""


class Search:
    """Our search in all its forms, and the yardsticks."""

    def __init__(self, users: Users, items: Floats) -> None:
        self.users, self.items = users, items
        self.table = Float32(users.vectors)
        self.judges: dict[str, Callable[[], SearchJudge | None]] = {
            "top": lambda: None,
            "top_filtered": judges(users, None),
        }
        for name, text in BOOSTERS.items():
            self.judges[f"top_filtered_{name}"] = judges(users, text)
        self._scores = np.empty((BATCH, users.columns.size), np.float32)

    def find(self, form: str, item: int) -> Best:
        """One answer. The judge is made anew, as a call to the service makes it."""
        return top(self.table, self.items[item], COUNT, judge=self.judges[form]())

    def bare(self, item: int) -> object:
        """Matrix-vector product, then a partition."""
        scores = self.users.vectors @ self.items[item]
        return np.argpartition(scores, len(scores) - COUNT)[-COUNT:]

    def bare_batch(self, _: int) -> object:
        """Matrix product into memory that is there already, then a partition of each row."""
        np.matmul(self.items[:BATCH], self.users.vectors.T, out=self._scores)
        size = self._scores.shape[1]
        return [np.argpartition(row, size - COUNT)[-COUNT:] for row in self._scores]

    def batch(self, _: int) -> list[Best]:
        """All items at once."""
        return top_of_each(self.table, self.items[:BATCH], COUNT)


def judges(users: Users, booster: str | None) -> Callable[[], SearchJudge]:
    """Makes judges of the filter and a booster, which are compiled once, over scores that stand for
    relevance as they are."""
    schema = users.columns.schema
    matches = compile_filter(FILTER, schema)
    boosts = None if booster is None else compile_booster(booster, schema)
    judge = Judge(users.columns, NOW, 0.0, matches, boosts, None, None, BudgetUse.OFF)
    return lambda: SearchJudge(judge, relevance=lambda scores: scores)


def exactness(search: Search) -> dict[str, float]:
    """Share of answers that brute force confirms, by form."""
    truth = [_scores(search.users.vectors, search.items[item]) for item in range(CHECKED)]
    columns = search.users.columns
    kept = matching(columns)
    worth: dict[str, Callable[[Values], Values]] = {
        "top": lambda scores: scores,
        "top_filtered": lambda scores: np.where(kept & (scores >= 0), scores, -np.inf),
    }
    for name, text in BOOSTERS.items():
        factor = np.where(kept, factors(columns, text), -np.inf)
        worth[f"top_filtered_{name}"] = partial(_boosted, factor)
    found = {
        form: [
            _confirmed(search.find(form, item), worth[form](truth[item])) for item in range(CHECKED)
        ]
        for form in search.judges
    }
    batch = search.batch(0)
    found["batch"] = [_confirmed(batch[item], truth[item]) for item in range(CHECKED)]
    return {form: float(np.mean(right)) for form, right in found.items()}


def _scores(vectors: Floats, item: Floats) -> Values:
    wide = item.astype(np.float64)
    parts = np.array_split(vectors, len(vectors) // _ROWS + 1)
    return np.concatenate([part.astype(np.float64) @ wide for part in parts])


def _boosted(factor: Values, scores: Values) -> Values:
    return np.where(scores >= 0, scores * factor, -np.inf)


def _confirmed(found: Best, worth: Values) -> bool:
    """The same rows in the same order, but for values that a float32 can't tell apart."""
    wanted = np.lexsort((np.arange(len(worth)), -worth))[:COUNT]
    wanted = wanted[worth[wanted] > -np.inf]
    if len(np.unique(found.rows)) != len(wanted):
        return False
    return bool(np.allclose(worth[found.rows], worth[wanted], rtol=1e-6, atol=1e-6))
