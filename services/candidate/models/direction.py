"""One fitted direction: scores of all candidates for queries, and their relevance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from services.candidate.models.calibration import Calibration, fit_calibration
from services.candidate.models.combination import taste_features
from services.candidate.models.context import Clock, context
from services.candidate.models.interactions import Interactions
from services.candidate.models.rankers import FactorRanker, FilterRanker, Ranker
from services.candidate.models.recipes import Recipe, fit_scorers
from services.candidate.models.scorers import Factors, Scorer
from services.candidate.models.selection import (
    Choice,
    Task,
    choose,
    known_candidates,
    split_context,
)
from services.candidate.models.windows import Window
from services.candidate.sources.arrays import Floats, Mask, Matrix, Rows

REFERENCES = 256
"""Queries over which a candidate's mean taste is taken."""
CALIBRATION_PAIRS = 2_000_000
QUICK_PAIRS = 200_000


@dataclass(frozen=True, eq=False, slots=True)
class Direction:
    """A ranker with its calibration. Queries × candidates."""

    ranker: Ranker
    calibration: Calibration
    queries: Floats
    """What the calibration knows of the queries: queries × features, and a last row for a query
    without interactions."""
    recipes: Sequence[Recipe]
    report: Mapping[str, float] = field(default_factory=dict)
    """Validation NDCG@20 of what was compared."""


def fit_direction(
    known: Interactions, clock: Clock | None, windows: Sequence[Window], task: Task
) -> Direction:
    """Choose, fit and calibrate; everything oriented as queries × candidates."""
    if not windows:
        task = replace(task, forms=1)
    choice = choose(known, clock, windows, task)
    timed = clock if choice.activity is not None else None
    ranker = make_ranker(known, timed, choice, task)
    calibration = _calibrated(known, windows, choice, task)
    return Direction(ranker, calibration, _levels(known, timed), choice.recipes, choice.report)


def make_ranker(known: Interactions, clock: Clock | None, choice: Choice, task: Task) -> Ranker:
    """Fit the chosen scorers on all that is known and take the context at the clock."""
    scorers = fit_scorers(known, choice.recipes, task.seed)
    features = context(known.items, len(known.item_ids), known.times, clock)
    offset, rest = split_context(features, choice.activity)
    sample = None
    if choice.activity is not None:
        rows = np.flatnonzero(np.diff(known.matrix.indptr)).astype(np.int64)
        sample = known.matrix[_some(rows, REFERENCES, task.seed)]
    there = known_candidates(known)
    if task.forms > 1:
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
    known: Interactions, windows: Sequence[Window], choice: Choice, task: Task
) -> Calibration:
    """On a sample of all queries known before the last window, whether they met anything or not."""
    shape = known.matrix.shape
    rate = known.matrix.nnz / (shape[0] * shape[1] + 1)
    if not windows:
        queries = _levels(known, None)[:0]
        empty = np.zeros((0, shape[1]), np.float32)
        return fit_calibration(empty, queries, empty, empty > 0, rate)
    window = windows[-1]
    before = window.known
    ranker = make_ranker(before, window.clock, choice, task)
    rows = np.flatnonzero(np.bincount(before.users, minlength=shape[0])).astype(np.int64)
    pairs = QUICK_PAIRS if task.effort == "quick" else CALIBRATION_PAIRS
    rows = _some(rows, max(pairs // max(shape[1], 1), 1), task.seed)
    scores = ranker.scores(before.matrix[rows])
    candidates = np.isfinite(scores)
    seen = before.seen[rows]
    candidates[np.repeat(np.arange(len(rows)), np.diff(seen.indptr)), seen.indices] = False
    met = np.asarray(window.met[rows].todense(), np.float32)
    queries = _levels(before, window.clock)[rows]
    return fit_calibration(np.where(candidates, scores, 0), queries, met, candidates, rate)


def _levels(known: Interactions, clock: Clock | None) -> Floats:
    return context(known.users, len(known.user_ids) + 1, known.times, clock)


def _some(rows: Rows, count: int, seed: int) -> Rows:
    if len(rows) <= count:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
