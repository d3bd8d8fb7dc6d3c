"""From scores to the rows of one page, with the spread over the values of an attribute.

Rows are in the order of ids, so (score descending, row) is a total order, and pages of it fit
together.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.candidate.expressions import AttributeType, Columns
from services.candidate.expressions.columns import PlainColumn, TextColumn
from services.candidate.questions import Place
from services.candidate.sources.arrays import Floats, Mask, Rows, best

GROUPING = (AttributeType.STRING, AttributeType.INT, AttributeType.BOOL)
"""Types of attributes over whose values an answer can be spread."""
FIRST_POOL = 1024
POOL_GROWTH = 4


@dataclass(frozen=True, eq=False, slots=True)
class Spread:
    """Groups of rows, of which each further member counts less."""

    columns: Columns
    attribute: str
    """Text, int or bool; rows without it are one further group."""
    strength: float
    """In [0, 1]."""

    def groups(self, rows: Rows) -> Rows:
        """The group of each of the rows."""
        column = self.columns.columns[self.attribute]
        if isinstance(column, TextColumn):
            codes: Rows = column.codes[rows].astype(np.int64)
            return codes
        assert isinstance(column, PlainColumn)
        _, found = np.unique(column.values[rows], return_inverse=True)
        groups: Rows = found.astype(np.int64) + 1
        if column.present is not None:
            groups[~column.present[rows]] = 0
        return groups

    def discounted(self, rows: Rows, scores: Floats) -> Floats:
        """Scores of rows that come best first, the n-th of its group times (1 − strength)ⁿ."""
        discounts = (1.0 - self.strength) ** _places(self.groups(rows))
        found: Floats = (scores * discounts).astype(np.float32)
        return found


@dataclass(frozen=True, eq=False, slots=True)
class Chosen:
    """One page."""

    rows: Rows
    scores: Floats
    """Of the rows, the discount of their group included."""
    more: bool


def choose(
    scores: Floats,
    ids: Sequence[str],
    count: int,
    *,
    after: Place | None = None,
    spread: Spread | None = None,
) -> Chosen:
    """The best `count` rows after a place; −inf is never chosen. Exact, also with a spread."""
    if spread is None or spread.strength == 0:
        order = best(_behind(scores, ids, after), count + 1)
        found = scores[order]
    else:
        order, found = _spread(scores, ids, count + 1, after, spread)
    return Chosen(order[:count], found[:count], len(order) > count)


def group_labels(columns: Columns, attribute: str, rows: Rows) -> list[str]:
    """The value of an attribute of some rows: `=` and the value as text, or empty where there is
    none. One of GROUPING."""
    column = columns.columns[attribute]
    assert isinstance(column, TextColumn | PlainColumn)
    alone = replace(columns, columns={attribute: column})
    return ["" if value is None else f"={value}" for value in alone.lists(rows)[attribute]]


def _spread(
    scores: Floats, ids: Sequence[str], count: int, after: Place | None, spread: Spread
) -> tuple[Rows, Floats]:
    """The greedy choice, which takes the best discounted score each time: within a group scores
    fall and discounts grow, so it is the order of the discounted scores.

    A pool of the best before discounts has the right discounts, and nothing outside it can have
    more than its last score: it grows until enough in it have more than that.
    """
    open_count = int(np.count_nonzero(~np.isneginf(scores)))
    size = max(FIRST_POOL, POOL_GROWTH * count)
    while True:
        pool = best(scores, size)
        discounted = spread.discounted(pool, scores[pool])
        complete = len(pool) == open_count
        settled = np.ones(len(pool), np.bool_) if complete else discounted > scores[pool[-1]]
        table = np.full(len(scores), -np.inf, np.float32)
        table[pool[settled]] = discounted[settled]
        order = best(_behind(table, ids, after), count)
        if complete or len(order) == count:
            return order, table[order]
        size *= POOL_GROWTH


def _places(groups: Rows) -> Rows:
    """How many of the same group stand before each."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(groups) else order
    lengths = np.diff(np.r_[starts, len(groups)])
    places = np.empty(len(groups), np.int64)
    places[order] = np.arange(len(groups)) - np.repeat(starts, lengths)
    return places


def _behind(scores: Floats, ids: Sequence[str], after: Place | None) -> Floats:
    """The scores with −inf for what stands up to a place."""
    if after is None:
        return scores
    hidden = reached(after, ids, np.arange(len(scores)), scores)
    return np.where(hidden, np.float32(-np.inf), scores)


def reached(place: Place, ids: Sequence[str], rows: Rows, scores: Floats) -> Mask:
    """Which rows stand up to a place: those with better scores, and equal ones up to the id."""
    score = np.float32(place.score)
    found: Mask = (scores > score) | ((scores == score) & (rows < bisect_right(ids, place.id)))
    return found
