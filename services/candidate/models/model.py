"""The fitted model of candidates, both directions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_array, vstack

from services.candidate.models.activity import MOST_MOMENTS, fit_activity
from services.candidate.models.attributes import Attributes, Columns, borrowed_profiles
from services.candidate.models.blocks import blocks
from services.candidate.models.context import Clock
from services.candidate.models.direction import Activities, Direction, fit_direction
from services.candidate.models.interactions import Interactions
from services.candidate.models.rankers import FactorRanker
from services.candidate.models.selection import Effort, Task
from services.candidate.models.windows import (
    Split,
    default_horizon,
    end_of,
    make_windows,
)
from services.candidate.sources.arrays import NONE, Floats, Mask, Matrix, Rows, sparse, top_k

QUICK_MOMENTS = 60
Side = Literal["items", "users"]
"""What is recommended: items to users, or users to items."""


class FitError(ValueError):
    """The interactions can't be fitted; the message says why."""


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to fit."""

    horizon: float | None = None
    """Seconds ahead that relevance speaks of; None: a week, less where the data is short."""
    split: Split = "auto"
    """How the validation split is made, see `make_windows`."""
    effort: Effort = "full"
    seed: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Recommendations:
    """For each query, best first."""

    rows: Rows
    """Queries × places: rows of the candidates; NONE where there is nothing more."""
    relevance: Floats
    """The probability of an interaction within the horizon; −inf at NONE."""
    cold: np.ndarray[Any, np.dtype[np.bool_]]
    """Queries that rest on attributes or on activity alone: they have no interactions."""


@dataclass(frozen=True, eq=False)
class CandidateModel:
    """What `fit` makes and a folder holds."""

    user_ids: Sequence[str]
    item_ids: Sequence[str]
    matrix: Matrix
    """Users × items: likes."""
    seen: Matrix
    """Users × items: whatever the weight."""
    directions: Mapping[Side, Direction]
    audience: Direction
    """Users for items as vectors, which an index can search; `directions["users"]` itself where
    that is one."""
    clock: Clock | None
    attributes: Mapping[str, Attributes] = field(default_factory=dict)
    """`users` and `items`: of those in the id lists, where given."""

    def ids(self, side: str) -> Sequence[str]:
        """The ids on one side."""
        return self.user_ids if side == "users" else self.item_ids

    @cached_property
    def rows(self) -> Mapping[str, Mapping[str, int]]:
        """Rows by id, for `users` and `items`."""
        return {
            side: {name: row for row, name in enumerate(self.ids(side))}
            for side in ("users", "items")
        }

    @cached_property
    def _profiles(self) -> Mapping[Side, tuple[Matrix, Matrix]]:
        backwards = (csr_array(self.matrix.T.tocsr()), csr_array(self.seen.T.tocsr()))
        return {"items": (self.matrix, self.seen), "users": backwards}

    def recommend(
        self, side: Side, queries: Sequence[str], count: int, *, exclude_seen: bool
    ) -> Recommendations:
        """The best `count` items for users, or users for items. An id that is not known has no
        interactions and no attributes."""
        known = self.rows["users" if side == "items" else "items"]
        rows = np.array([known.get(name, NONE) for name in queries], np.int64)
        width = min(count, len(self.ids(side)))
        found = np.full((len(rows), width), NONE, np.int64)
        relevance = np.full((len(rows), width), -np.inf, np.float32)
        cold = np.ones(len(rows), np.bool_)
        for start, scores, part in self.scored(side, rows):
            place = slice(start, start + len(part))
            cold[place] = self.new(side, part)
            if exclude_seen:
                _hide(scores, self._profiles[side][1], part)
            found[place], best = top_k(scores, count)
            relevance[place] = self.relevance(side, part, best)
        return Recommendations(found, relevance, cold)

    def scored(self, side: Side, rows: Rows) -> Iterator[tuple[int, Floats, Rows]]:
        """Scores of all candidates for query rows (NONE: an unknown one), a block at a time: first
        place, queries × candidates, and the rows."""
        ranker = self.directions[side].ranker
        for start, part in blocks(rows, len(self.ids(side))):
            yield start, ranker.scores(self.profiles(side, part), self.new(side, part)), part

    def new(self, side: Side, part: Rows) -> Mask:
        """Which query rows (NONE: an unknown one) have no interactions."""
        ends, rows = self._profiles[side][0].indptr, np.maximum(part, 0)
        found: Mask = (part == NONE) | (ends[rows] == ends[rows + 1])
        return found

    def relevance(self, side: Side, rows: Rows, scores: Floats, new: Mask | None = None) -> Floats:
        """Calibrated probabilities of scores (queries × any); −inf stays. They grow with the score
        of a query. NONE: a query that is not in the model. `new`: which have no interactions; None:
        as the model's matrix says."""
        direction = self.directions[side]
        level = direction.queries[np.where(rows == NONE, len(direction.queries) - 1, rows)]
        closed = np.isneginf(scores)
        plain = np.where(closed, 0, scores)
        found = direction.calibration.relevance(plain, level)
        new = self.new(side, rows) if new is None else new
        found[new] = direction.new_calibration.relevance(plain[new], level[new])
        return np.where(closed, np.float32(-np.inf), found)

    def index(self, side: Side) -> FactorRanker | None:
        """The direction as vectors, where there are some: always for `users`; for `items` after a
        quick fit."""
        ranker = (self.audience if side == "users" else self.directions[side]).ranker
        return ranker if isinstance(ranker, FactorRanker) else None

    def lent(
        self,
        side: Side,
        columns: Columns,
        size: int,
        vectors: Floats | None = None,
        lenders: Rows | None = None,
    ) -> Matrix:
        """Profiles for `size` queries that are not in the model, by their attributes and vectors of
        their texts (size × dimensions, of length one): `size` × candidates. Empty, so that activity
        alone ranks, for those that are like no known one. `lenders`: see `borrowed_profiles`."""
        table = self._profiles[side][0]
        known = self.attributes.get("users" if side == "items" else "items")
        if known is None:
            return _blank(size, table.shape[1])
        return borrowed_profiles(table, known.others(columns, size, vectors), known, lenders)

    def profiles(self, side: Side, part: Rows) -> Matrix:
        """The profiles of query rows (NONE: an unknown one), queries × candidates; those without
        one borrow it by their attributes."""
        table = self._profiles[side][0]
        counts = np.diff(table.indptr)
        profiles = _rows(table, part)
        attributes = self.attributes.get("users" if side == "items" else "items")
        cold = np.flatnonzero((part != NONE) & (counts[np.maximum(part, 0)] == 0))
        if attributes is None or not len(cold):
            return profiles
        lent = borrowed_profiles(table, attributes.rows(part[cold]), attributes)
        places = np.arange(len(part))
        places[cold] = len(part) + np.arange(len(cold))
        return _stack(profiles, lent)[places]


def fit(
    interactions: Interactions,
    options: FitOptions | None = None,
    users: Columns | None = None,
    items: Columns | None = None,
    vectors: Mapping[str, Floats] | None = None,
) -> CandidateModel:
    """Fit both directions. `users`, `items`: columns of attributes, in the order of the id lists
    of the interactions (which may hold ids without interactions); `vectors` by `users` or `items`:
    those of their texts, each of length one, in the same order. Raises FitError."""
    options = options or FitOptions()
    if not interactions.matrix.nnz:
        raise FitError("no interaction has a positive weight")
    clock = end_of(interactions, options.horizon or default_horizon(interactions))
    windows = make_windows(interactions, options.split, clock, options.seed)
    if not windows.choice or windows.choice[0].clock is None:
        clock = None
    backwards = windows.transposed()
    dense = options.effort == "full"
    task = Task(2 if dense and clock is None else 1, dense, options.effort, options.seed)
    vectors_task = replace(task, forms=1, dense=False)
    ahead = back = None
    if clock is not None:
        moments = QUICK_MOMENTS if options.effort == "quick" else MOST_MOMENTS
        users_activity, by_new_items = fit_activity(interactions, clock, moments)
        items_activity, by_new_users = fit_activity(interactions.transposed, clock, moments)
        ahead = Activities(items_activity, users_activity, by_new_users)
        back = Activities(users_activity, items_activity, by_new_items)
    known = _attributes(interactions, {"users": users, "items": items}, vectors or {})
    own, other = known.get("users"), known.get("items")
    turned = interactions.transposed
    audience = fit_direction(turned, clock, backwards, back, other, vectors_task)
    directions: dict[Side, Direction] = {
        "items": fit_direction(interactions, clock, windows, ahead, own, task),
        "users": audience,
    }
    if dense:
        directions["users"] = fit_direction(turned, clock, backwards, back, other, task)
    return CandidateModel(
        interactions.user_ids,
        interactions.item_ids,
        interactions.matrix,
        interactions.seen,
        directions,
        audience,
        clock,
        known,
    )


def _attributes(
    interactions: Interactions,
    columns: Mapping[str, Columns | None],
    vectors: Mapping[str, Floats],
) -> dict[str, Attributes]:
    sizes = {"users": len(interactions.user_ids), "items": len(interactions.item_ids)}
    return {
        name: Attributes.of(columns[name] or {}, size, vectors.get(name))
        for name, size in sizes.items()
        if columns[name] or name in vectors
    }


def _blank(rows: int, columns: int) -> Matrix:
    none = np.empty(0, np.int64)
    return sparse(np.empty(0, np.float32), none, none, (rows, columns))


def _rows(table: Matrix, rows: Rows) -> Matrix:
    """Some rows; NONE is an empty one."""
    inside = rows != NONE
    taken = table[rows[inside]]
    counts = np.zeros(len(rows) + 1, np.int64)
    counts[1:][inside] = np.diff(taken.indptr)
    parts: Any = (taken.data, taken.indices, np.cumsum(counts))
    found: Matrix = csr_array(parts, shape=(len(rows), table.shape[1]))
    return found


def _stack(first: Matrix, second: Matrix) -> Matrix:
    stacked: Matrix = csr_array(vstack([first, second], format="csr"))
    return stacked


def _hide(scores: Floats, seen: Matrix, part: Rows) -> None:
    inside = np.flatnonzero(part != NONE)
    table = seen[part[inside]]
    scores[np.repeat(inside, np.diff(table.indptr)), table.indices] = -np.inf
