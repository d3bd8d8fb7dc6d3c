"""One fitted direction: scores of all candidates for queries, and their relevance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from services.candidate.models.activity import Activity
from services.candidate.models.calibration import Calibration, fit_calibration
from services.candidate.models.combination import Combination, taste_features
from services.candidate.models.context import Clock, context
from services.candidate.models.interactions import Interactions
from services.candidate.models.scorers import Recipe, Scorer, fit_scorers
from services.candidate.models.selection import centre, choose, split_context
from services.candidate.models.windows import Window
from services.candidate.sources.arrays import Floats, Mask, Matrix, Rows

REFERENCES = 256
"""Queries over which a candidate's mean taste is taken."""
CALIBRATION_PAIRS = 2_000_000
BLOCK = 256


@dataclass(frozen=True, eq=False, slots=True)
class Ranker:
    """The fitted parts as they stand at one moment."""

    recipes: Sequence[Recipe]
    scorers: Sequence[Scorer]
    combination: Combination
    offset: Floats
    context: Floats
    centres: Floats
    """Features of taste × candidates."""
    known: Mask
    """Candidates that somebody interacted with."""

    def scores(self, profiles: Matrix) -> Floats:
        """Queries × candidates; −inf for a candidate that nobody interacted with."""
        shape = (profiles.shape[0], len(self.known))
        candidates: Mask = np.broadcast_to(self.known, shape)
        empty = np.diff(profiles.indptr) == 0
        taste: list[Floats] = []
        for scorer in self.scorers:
            for feature in taste_features(scorer.scores(profiles), candidates):
                feature -= self.centres[len(taste)]
                feature[empty] = 0.0
                taste.append(feature)
        found = self.combination.scores(self.offset, self.context, taste)
        full: Floats = np.array(np.broadcast_to(found, shape), np.float32)
        full[:, ~self.known] = -np.inf
        return full


@dataclass(frozen=True, eq=False, slots=True)
class Direction:
    """A ranker with its calibration. Queries × candidates."""

    ranker: Ranker
    calibration: Calibration
    queries: Floats
    """Queries × features, what the calibration knows of them."""
    report: Mapping[str, float] = field(default_factory=dict)
    """Validation NDCG@20 of what was compared."""


def fit_direction(
    known: Interactions, clock: Clock | None, windows: Sequence[Window], seed: int
) -> Direction:
    """Choose, fit and calibrate; everything oriented as queries × candidates."""
    choice = choose(known, clock, windows, seed)
    timed = clock if choice.activity is not None else None

    def ranker(part: Interactions, at: Clock | None) -> Ranker:
        return make_ranker(part, at, choice.recipes, choice.combination, choice.activity, seed)

    last = windows[-1]
    calibration = _calibrated(last, ranker(last.known, last.clock), seed)
    queries = context(known.users, len(known.user_ids), known.times, timed)
    return Direction(ranker(known, timed), calibration, queries, choice.report)


def make_ranker(
    known: Interactions,
    clock: Clock | None,
    recipes: Sequence[Recipe],
    combination: Combination,
    activity: Activity | None,
    seed: int,
) -> Ranker:
    """Fit the chosen scorers on all that is known and take the context at the clock."""
    size = len(known.item_ids)
    there: Mask = np.bincount(known.items, minlength=size) > 0
    scorers = fit_scorers(known, recipes, seed)
    features = context(known.items, size, known.times, clock)
    offset, rest = split_context(features, activity)
    centres = np.zeros((2 * len(scorers), size), np.float32)
    if activity is not None:
        rows = _sample(np.flatnonzero(np.diff(known.matrix.indptr)), REFERENCES, seed)
        candidates = np.tile(there, (len(rows), 1))
        for place, scorer in enumerate(scorers):
            pair = taste_features(scorer.scores(known.matrix[rows]), candidates)
            for form, feature in enumerate(pair):
                centres[2 * place + form] = centre(feature, candidates)
    return Ranker(recipes, scorers, combination, offset, rest, centres, there)


def _calibrated(window: Window, ranker: Ranker, seed: int) -> Calibration:
    """On a sample of all queries known before the window, whether they met anything or not."""
    size = window.met.shape[1]
    known = window.known
    rows = np.flatnonzero(np.bincount(known.users, minlength=window.met.shape[0]))
    rows = _sample(rows, max(CALIBRATION_PAIRS // max(size, 1), 1), seed)
    scores = ranker.scores(known.matrix[rows])
    candidates = np.isfinite(scores)
    seen = known.seen[rows]
    candidates[np.repeat(np.arange(len(rows)), np.diff(seen.indptr)), seen.indices] = False
    queries = context(known.users, window.met.shape[0], known.times, window.clock)[rows]
    met = np.asarray(window.met[rows].todense(), np.float32)
    return fit_calibration(np.where(candidates, scores, 0), queries, met, candidates)


def _sample(rows: Rows, count: int, seed: int) -> Rows:
    if len(rows) <= count:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
