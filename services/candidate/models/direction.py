"""One fitted direction: scores of all candidates for queries, and their relevance."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from services.candidate.models.activity import Activity
from services.candidate.models.attributes import Attributes
from services.candidate.models.blocks import blocks
from services.candidate.models.calibration import (
    Calibration,
    Pairs,
    fit_calibration,
    joined_pairs,
    sample_pairs,
)
from services.candidate.models.context import Clock, context
from services.candidate.models.interactions import Interactions
from services.candidate.models.newcomers import NewcomerModel, fit_newcomers, lent_profiles
from services.candidate.models.rankers import FactorRanker, FilterRanker, Ranker
from services.candidate.models.recipes import Recipe, fit_scorers
from services.candidate.models.scorers import Factors
from services.candidate.models.selection import (
    Choice,
    Task,
    centres_of,
    choose,
    context_of,
    known_candidates,
    references,
)
from services.candidate.models.windows import Window, Windows
from services.candidate.sources.arrays import Floats, Matrix, Rows

CALIBRATION_PAIRS = 600_000
QUICK_PAIRS = 200_000
CALIBRATION_WINDOWS = 4
CALIBRATION_QUERIES = 500
"""Of a window, at least; of many candidates a sample is taken of each."""
ENOUGH = 100
"""Pairs that met in the last window, for a quick fit to look at no other."""


@dataclass(frozen=True, eq=False, slots=True)
class Direction:
    """A ranker with its calibration. Queries × candidates."""

    ranker: Ranker
    calibration: Calibration
    new_calibration: Calibration
    """Of queries without interactions."""
    queries: Floats
    """What the calibration knows of the queries: queries × features, and a last row for a query
    without interactions."""
    recipes: Sequence[Recipe]
    timed: bool = False
    """Whether candidates count by their activity, rather than by their popularity."""
    report: Mapping[str, float] = field(default_factory=dict)
    """Validation NDCG@20 of what was compared."""

    @property
    def label(self) -> str:
        """What was chosen, for people."""
        names = [recipe.label for recipe in self.recipes]
        return " + ".join(["activity" if self.timed else "popularity", *names])


@dataclass(frozen=True, eq=False, slots=True)
class Made:
    """What a ranker of any moment is made of."""

    choice: Choice
    activity: Activity | None
    newcomers: NewcomerModel | None
    attributes: Attributes | None
    """Of the queries."""


@dataclass(frozen=True, eq=False, slots=True)
class Activities:
    """Of both sides of a direction, for all of its moments."""

    candidates: Activity
    queries: Activity
    newcomers: Activity
    """Of the candidates, among new queries."""


def fit_direction(
    known: Interactions,
    clock: Clock | None,
    windows: Windows,
    activities: Activities | None,
    attributes: Attributes | None,
    task: Task,
) -> Direction:
    """Choose, fit and calibrate; everything oriented as queries × candidates. `clock` and
    `activities` are there if the windows are in time. `attributes`: of the queries."""
    if not windows.choice:
        task = replace(task, forms=1, dense=False)
    activity = activities.candidates if activities else None
    choice = choose(known, windows.choice, activity, task)
    newcomers = None
    if activities and task.dense:
        newcomers = fit_newcomers(windows.choice, activities.newcomers, attributes)
    made = Made(choice, activity, newcomers, attributes)
    ranker = make_ranker(known, clock, made, task)
    levels = _levels(known, clock, activities)
    old = new = Pairs.none(levels.shape[1])
    if windows.calibration:
        old, new = _held_out(known, windows.calibration, made, activities, task)
    rows, columns = known.matrix.shape
    rate = known.matrix.nnz / (rows * columns + 1)
    calibration = fit_calibration(old, rate)
    return Direction(
        ranker,
        calibration,
        fit_calibration(new, rate) if len(new.met) else calibration,
        _within(levels, old),
        choice.recipes,
        activity is not None,
        choice.report,
    )


def make_ranker(known: Interactions, clock: Clock | None, made: Made, task: Task) -> Ranker:
    """Fit the chosen scorers on all that is known and take the context at the clock."""
    choice, activity = made.choice, made.activity
    scorers = fit_scorers(known, choice.recipes, task.seed)
    offset, rest = context_of(known, clock, activity)
    there = known_candidates(known)
    if task.dense:
        centres = centres_of(known, scorers, task)
        newcomers = made.newcomers.at(known, clock) if made.newcomers and clock else None
        return FilterRanker(scorers, choice.combination, offset, rest, centres, there, newcomers)
    factors = [scorer for scorer in scorers if isinstance(scorer, Factors)]
    bias = np.where(there, offset + choice.combination.static(rest), np.float32(-np.inf))
    weights = choice.combination.weights[rest.shape[1] :].astype(np.float32)
    return FactorRanker.of(factors, weights, bias, references(known, task.seed))


def _held_out(
    known: Interactions,
    windows: Sequence[Window],
    made: Made,
    activities: Activities | None,
    task: Task,
) -> tuple[Pairs, Pairs]:
    """Of the queries known before and of those without interactions: on a sample of those of the
    last windows, whether they met anything or not, and of their pairs. None of the latter where
    each query of the list came some day, as in a list made of the interactions: then nothing tells
    how many there are who stay away."""
    old: list[Pairs] = []
    new: list[Pairs] = []
    quick = task.effort == "quick"
    enough = quick and windows[-1].met.nnz >= ENOUGH
    latest = windows[-1:] if enough else windows[-CALIBRATION_WINDOWS:]
    most = (QUICK_PAIRS if quick else CALIBRATION_PAIRS) // len(latest)
    all_came = len(np.unique(known.users)) == known.matrix.shape[0]
    for window in latest:
        ranker = make_ranker(window.known, window.clock, made, task)
        # without times all that is known counts: who has less left was held out more of
        counted = window.known if window.clock else known
        levels = _levels(counted, window.clock, activities)
        for queries in _queries(window, made.attributes):
            if queries.new and all_came:
                continue
            part = new if queries.new else old
            part += _pairs(window, ranker, levels, queries, most, task.seed)
    return joined_pairs(old, levels.shape[1]), joined_pairs(new, levels.shape[1])


@dataclass(frozen=True, eq=False, slots=True)
class Queries:
    """Of a window: those known before, or those without interactions."""

    rows: Rows
    met: Matrix
    """Of all queries × candidates."""
    new: bool
    attributes: Attributes | None
    """Of all queries."""

    def profiles(self, known: Interactions, rows: Rows) -> Matrix:
        """Of some of the queries; new ones borrow theirs."""
        return lent_profiles(known, self.attributes, rows) if self.new else known.matrix[rows]


def _queries(window: Window, attributes: Attributes | None) -> tuple[Queries, Queries]:
    old = np.bincount(window.known.users, minlength=window.met.shape[0]) > 0
    return (
        Queries(np.flatnonzero(old).astype(np.int64), window.met, False, None),
        Queries(np.flatnonzero(~old).astype(np.int64), window.by_new_users, True, attributes),
    )


def _pairs(
    window: Window, ranker: Ranker, levels: Floats, queries: Queries, most: int, seed: int
) -> Iterator[Pairs]:
    """About `most` pairs of a window's queries, a block of queries at a time."""
    before = window.known
    size = before.matrix.shape[1]
    rows, stand_for = _some(queries, max(most // size, CALIBRATION_QUERIES), seed)
    share = min(most / max(len(rows) * size, 1), 1.0)
    for start, part in blocks(rows, size):
        profiles = queries.profiles(before, part)
        scores = ranker.scores(profiles, np.full(len(part), queries.new))
        candidates = np.isfinite(scores)
        seen = before.seen[part]
        candidates[np.repeat(np.arange(len(part)), np.diff(seen.indptr)), seen.indices] = False
        met = np.asarray(queries.met[part].todense()) > 0
        own = stand_for[start : start + len(part)]
        yield sample_pairs(scores, levels[part], met, candidates, own, share, seed + start)


def _levels(known: Interactions, clock: Clock | None, activities: Activities | None) -> Floats:
    """Queries × features, with a last row for a query without interactions."""
    if activities is None or clock is None:
        return context(known.users, len(known.user_ids) + 1, None, None)
    return activities.queries.of_users(known, clock)[:, None]


def _within(levels: Floats, pairs: Pairs) -> Floats:
    """Features of queries between the least and the most that a calibration was fitted on: beyond
    them it knows nothing, and a query without interactions lies far off."""
    if not len(pairs.met):
        return levels
    return np.clip(levels, pairs.queries.min(axis=0), pairs.queries.max(axis=0))


def _some(queries: Queries, count: int, seed: int) -> tuple[Rows, Floats]:
    """Up to `count` of the queries that met something and of the others, and how many each stands
    for: of a million who never come there may be few who do, and none in a sample of all."""
    random = np.random.default_rng(seed)
    met = np.diff(queries.met.indptr)[queries.rows] > 0
    chosen: list[Rows] = []
    stand_for: list[Floats] = []
    for group in (queries.rows[met], queries.rows[~met]):
        kept = group if len(group) <= count else random.choice(group, count, replace=False)
        chosen.append(kept)
        stand_for.append(np.full(len(kept), len(group) / max(len(kept), 1), np.float32))
    rows = np.concatenate(chosen)
    order = np.argsort(rows)
    return rows[order], np.concatenate(stand_for)[order]
