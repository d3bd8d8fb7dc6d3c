"""One fitted direction: scores of all candidates for queries, and their relevance."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from services.candidate.models.activity import Activity
from services.candidate.models.calibration import (
    Calibration,
    Pairs,
    fit_calibration,
    joined_pairs,
    sample_pairs,
)
from services.candidate.models.combination import taste_features
from services.candidate.models.context import Clock, context
from services.candidate.models.interactions import Interactions
from services.candidate.models.rankers import FactorRanker, FilterRanker, Ranker
from services.candidate.models.recipes import Recipe, fit_scorers
from services.candidate.models.scorers import Factors, Scorer
from services.candidate.models.selection import (
    BLOCK,
    Choice,
    Task,
    choose,
    context_of,
    known_candidates,
)
from services.candidate.models.windows import Window
from services.candidate.sources.arrays import Floats, Mask, Matrix, Rows

REFERENCES = 256
"""Queries over which a candidate's mean taste is taken."""
CALIBRATION_PAIRS = 600_000
QUICK_PAIRS = 200_000
CALIBRATION_WINDOWS = 4
CALIBRATION_QUERIES = 500
"""Of a window, at least; of many candidates a sample is taken of each."""


@dataclass(frozen=True, eq=False, slots=True)
class Direction:
    """A ranker with its calibration. Queries × candidates."""

    ranker: Ranker
    calibration: Calibration
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
class Activities:
    """Of both sides of a direction, for all of its moments."""

    candidates: Activity
    queries: Activity


def fit_direction(
    known: Interactions,
    clock: Clock | None,
    windows: Sequence[Window],
    activities: Activities | None,
    task: Task,
) -> Direction:
    """Choose, fit and calibrate; everything oriented as queries × candidates. `clock` and
    `activities` are there if the windows are in time."""
    if not windows:
        task = replace(task, forms=1, dense=False)
    activity = activities.candidates if activities else None
    choice = choose(known, windows, activity, task)
    ranker = make_ranker(known, clock, choice, activity, task)
    calibration = _calibrated(known, windows, choice, activities, task)
    return Direction(
        ranker,
        calibration,
        _levels(known, clock, activities),
        choice.recipes,
        activity is not None,
        choice.report,
    )


def make_ranker(
    known: Interactions,
    clock: Clock | None,
    choice: Choice,
    activity: Activity | None,
    task: Task,
) -> Ranker:
    """Fit the chosen scorers on all that is known and take the context at the clock."""
    scorers = fit_scorers(known, choice.recipes, task.seed)
    offset, rest = context_of(known, clock, activity)
    sample = None
    if activity is not None:
        rows = np.flatnonzero(np.diff(known.matrix.indptr)).astype(np.int64)
        sample = known.matrix[_some(rows, REFERENCES, task.seed)]
    there = known_candidates(known)
    if task.dense:
        centres = _centres(scorers, sample, there, task.forms)
        return FilterRanker(scorers, choice.combination, offset, rest, centres, there)
    factors = [scorer for scorer in scorers if isinstance(scorer, Factors)]
    bias = np.where(there, offset + choice.combination.static(rest), np.float32(-np.inf))
    weights = choice.combination.weights[rest.shape[1] :].astype(np.float32)
    return FactorRanker.of(factors, weights, bias, sample)


def _centres(scorers: Sequence[Scorer], sample: Matrix | None, there: Mask, forms: int) -> Floats:
    """Each candidate's mean over queries, of each feature of taste. Without it taste says again,
    and worse, what activity has said: a candidate with many interactions is near to every query."""
    centres = np.zeros((forms * len(scorers), len(there)), np.float32)
    if sample is not None:
        features = [
            feature
            for scorer in scorers
            for feature in taste_features(scorer.scores(sample), there, forms)
        ]
        for place, feature in enumerate(features):
            centres[place] = feature.mean(axis=0)
    return centres


def _calibrated(
    known: Interactions,
    windows: Sequence[Window],
    choice: Choice,
    activities: Activities | None,
    task: Task,
) -> Calibration:
    """On a sample of all queries known before each of the last windows, whether they met anything
    or not, and of their pairs."""
    rows, columns = known.matrix.shape
    rate = known.matrix.nnz / (rows * columns + 1)
    if not windows:
        return fit_calibration(Pairs.none(_levels(known, None, None).shape[1]), rate)
    quick = task.effort == "quick"
    latest = windows[-1:] if quick else windows[-CALIBRATION_WINDOWS:]
    most = (QUICK_PAIRS if quick else CALIBRATION_PAIRS) // len(latest)
    activity = activities.candidates if activities else None
    parts: list[Pairs] = []
    for window in latest:
        ranker = make_ranker(window.known, window.clock, choice, activity, task)
        levels = _levels(window.known, window.clock, activities)
        parts += _pairs(window, ranker, levels, most, task.seed)
    return fit_calibration(joined_pairs(parts), rate)


def _pairs(window: Window, ranker: Ranker, levels: Floats, most: int, seed: int) -> Iterator[Pairs]:
    """About `most` pairs of a window's queries, a block of queries at a time."""
    before = window.known
    size = before.matrix.shape[1]
    rows = np.flatnonzero(np.bincount(before.users)).astype(np.int64)
    rows = _some(rows, max(most // size, CALIBRATION_QUERIES), seed)
    share = min(most / (len(rows) * size), 1.0)
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        scores = ranker.scores(before.matrix[part])
        candidates = np.isfinite(scores)
        seen = before.seen[part]
        candidates[np.repeat(np.arange(len(part)), np.diff(seen.indptr)), seen.indices] = False
        met = np.asarray(window.met[part].todense()) > 0
        yield sample_pairs(scores, levels[part], met, candidates, share, seed + start)


def _levels(known: Interactions, clock: Clock | None, activities: Activities | None) -> Floats:
    if activities is None or clock is None:
        return context(known.users, len(known.user_ids) + 1, None, None)
    return activities.queries.of_users(known, clock)[:, None]


def _some(rows: Rows, count: int, seed: int) -> Rows:
    if len(rows) <= count:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
