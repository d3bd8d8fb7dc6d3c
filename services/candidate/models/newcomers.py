"""Scores for queries without interactions: what new ones begin with, and what those alike like.

New queries don't meet what known ones come back for: they have a model of activity of their own.
To it comes how much more often those alike by attributes meet a candidate than everybody does, with
a weight fitted on the queries that were new in the validation windows. Where there were none, some
known ones stand in for them, as if nothing were known of them but their attributes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.candidate.models.activity import Activity
from services.candidate.models.attributes import Attributes, borrowed_profiles
from services.candidate.models.combination import Lists, fit_combination
from services.candidate.models.context import Clock
from services.candidate.models.interactions import Interactions
from services.candidate.models.selection import LARGEST, known_candidates
from services.candidate.models.windows import Window
from services.candidate.sources.arrays import Floats, Matrix, Rows

SMOOTHING = 0.05
"""Added to shares, so that few who are alike say little."""
STAND_INS = 400
"""Known queries that stand in for new ones, in all windows together."""
LENDING = 3
"""Of so many known queries one stands in at most: the others lend."""


@dataclass(frozen=True, eq=False, slots=True)
class Newcomers:
    """Of a direction."""

    level: Floats
    """Candidates: how much new queries want them."""
    share: Floats
    """Candidates: the share of the known queries that met them."""
    weight: float
    """Of what those alike like."""

    def scores(self, lent: Matrix) -> Floats:
        """From borrowed profiles, queries × candidates; an empty one gets the level alone."""
        found: Floats = self.level + np.float32(self.weight) * self.lift(lent)
        return found

    def lift(self, lent: Matrix) -> Floats:
        """Logarithm of how much more often those alike meet each candidate; 0 without any."""
        table = np.asarray(lent.todense(), np.float32) + np.float32(SMOOTHING)
        found: Floats = np.log(table / (self.share + np.float32(SMOOTHING)))
        found[np.diff(lent.indptr) == 0] = 0.0
        return found


@dataclass(frozen=True, eq=False, slots=True)
class NewcomerModel:
    """What doesn't change with the moment."""

    activity: Activity
    """Of the candidates, among new queries."""
    weight: float
    """See `Newcomers`."""

    def at(self, known: Interactions, clock: Clock) -> Newcomers:
        """As it stands at the clock."""
        level = self.activity.of_users(known.transposed, clock)[:-1]
        warm = max(int(np.count_nonzero(np.diff(known.matrix.indptr))), 1)
        share = np.asarray(known.matrix.sum(axis=0), np.float32).ravel() / np.float32(warm)
        return Newcomers(level, share.astype(np.float32), self.weight)


def lent_profiles(known: Interactions, attributes: Attributes | None, rows: Rows) -> Matrix:
    """Borrowed profiles for rows without interactions; empty without attributes."""
    if attributes is None:
        return known.matrix[rows]
    warm = np.flatnonzero(np.diff(known.matrix.indptr)).astype(np.int64)
    return borrowed_profiles(known.matrix, attributes.rows(rows), attributes, warm)


def fit_newcomers(
    windows: Sequence[Window], activity: Activity, attributes: Attributes | None
) -> NewcomerModel:
    """The weight of what those alike like; 0 without attributes. Windows in time; `activity`: of
    the candidates, among new queries."""
    if attributes is None:
        return NewcomerModel(activity, 0.0)
    lists = [
        _lists(window, rows, window.by_new_users, window.known, activity, attributes)
        for window in windows
        if len(rows := np.flatnonzero(np.diff(window.by_new_users.indptr)).astype(np.int64))
    ]
    if not lists:
        for window in windows:
            most = min(STAND_INS, LARGEST // window.met.shape[1])
            rows = _stand_ins(window, most // len(windows))
            others = window.known.take(~np.isin(window.known.users, rows))
            lists.append(_lists(window, rows, window.met, others, activity, attributes))
    weight = float(fit_combination(lists).weights[0]) if lists else 0.0
    return NewcomerModel(activity, max(weight, 0.0))


def _stand_ins(window: Window, count: int) -> Rows:
    """Some of the known queries that met something: one at least, whatever `count`."""
    rows = np.flatnonzero(np.diff(window.met.indptr)).astype(np.int64)
    return rows[:: max(-(-len(rows) // max(count, 1)), LENDING)]


def _lists(
    window: Window,
    rows: Rows,
    met: Matrix,
    lenders: Interactions,
    activity: Activity,
    attributes: Attributes,
) -> Lists:
    """What some queries met of all that they hadn't yet, with what `lenders` like as taste."""
    assert window.clock is not None
    found = NewcomerModel(activity, 0.0).at(window.known, window.clock)
    lift = found.lift(lent_profiles(lenders, attributes, rows))
    candidates = np.tile(known_candidates(window.known), (len(rows), 1))
    seen = window.known.seen[rows]
    candidates[np.repeat(np.arange(len(rows)), np.diff(seen.indptr)), seen.indices] = False
    context = np.zeros((met.shape[1], 0), np.float32)
    table = np.asarray(met[rows].todense(), np.float32)
    return Lists(candidates, table, found.level, context, [lift])
