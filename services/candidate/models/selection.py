"""Chooses scorers and weights for one direction by what its validation windows hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from services.candidate.models.activity import PENALTIES, Activity, fit_activity, past_moments
from services.candidate.models.combination import (
    Combination,
    Lists,
    fit_combination,
    gains,
    taste_features,
)
from services.candidate.models.context import Clock, context
from services.candidate.models.interactions import Interactions
from services.candidate.models.scorers import Recipe, Scorer, fit_scorers, recipes_for
from services.candidate.models.windows import Window
from services.candidate.sources.arrays import Floats, Mask, Rows

MOST_ENTRIES = 400_000
"""Pairs in all windows' lists together, unless LEAST_QUERIES of one window are more."""
LEAST_QUERIES = 300
SCREENED = 2_000
"""Queries, in all windows together, by which the scorers of a kind are compared."""
BLOCK = 256
CHOICE_WINDOWS = 4
"""The latest windows, by which scorers of one kind are compared."""


@dataclass(frozen=True, eq=False, slots=True)
class Choice:
    """What was chosen for a direction."""

    recipes: Sequence[Recipe]
    combination: Combination
    activity: Activity | None
    """Of the candidates; None without timestamps."""
    report: dict[str, float]
    """Validation NDCG@20 of everything that was compared, by its label."""


def choose(
    known: Interactions, clock: Clock | None, windows: Sequence[Window], seed: int
) -> Choice:
    """Choose by the windows, all oriented as queries × candidates."""
    timed = clock is not None and windows[0].clock is not None
    activity = _activity(known, clock, windows) if timed and clock else None
    generator = np.random.default_rng(seed)
    recipes, report = _screened(windows, generator, seed)
    most = max(MOST_ENTRIES // windows[0].met.shape[1], LEAST_QUERIES) // len(windows)
    lists = []
    for window in windows:
        rows = _some(_queries(window), max(most, 1), generator)
        scorers = fit_scorers(window.known, recipes, seed)
        lists.append(make_lists(window, rows, scorers, activity))
    options = [
        subset
        for size in range(len(recipes) + 1)
        for subset in combinations(range(len(recipes)), size)
    ]
    found: dict[tuple[int, ...], float] = {}
    for subset in options:
        found[subset] = _cross_fitted(lists, subset)
        label = " + ".join(["context", *(recipes[place].label for place in subset)])
        report[label] = found[subset]
    best = max(options, key=lambda subset: (found[subset], -len(subset)))
    chosen = [window.some(np.ones(len(window.met), np.bool_), _columns(best)) for window in lists]
    return Choice([recipes[place] for place in best], fit_combination(chosen), activity, report)


def _activity(known: Interactions, clock: Clock, windows: Sequence[Window]) -> Activity:
    """With the penalty that does best on the later windows when fitted before them."""
    later = windows[len(windows) // 2 :]
    begin = later[0].clock
    if begin is None or len(windows) == 1:
        return fit_activity(past_moments(known.transposed, clock), PENALTIES[1])
    early = past_moments(later[0].known.transposed, begin)
    tables = [_table(window, _queries(window)[:SCREENED], None) for window in later]

    def gain(penalty: float) -> float:
        activity = fit_activity(early, penalty)
        found = [gains(activity.scores(table.context)[None, :], table) for table in tables]
        return float(np.concatenate(found).mean())

    return fit_activity(past_moments(known.transposed, clock), max(PENALTIES, key=gain))


def _columns(subset: Sequence[int]) -> list[int]:
    """Each scorer has two features of taste."""
    return [column for place in subset for column in (2 * place, 2 * place + 1)]


def _cross_fitted(lists: Sequence[Lists], subset: Sequence[int]) -> float:
    """Mean NDCG@20 of queries whose half (of the windows, or of the only window's queries) took no
    part in the fit."""
    columns, halves = _columns(subset), []
    for half in (0, 1):
        part = [
            _half(window, place, half, len(lists), columns) for place, window in enumerate(lists)
        ]
        halves.append([window for window in part if len(window.met)])
    found: list[Floats] = []
    for fitted, judged in ((halves[0], halves[1]), (halves[1], halves[0])):
        if not fitted:
            continue
        combination = fit_combination(fitted)
        for window in judged:
            found.append(
                gains(combination.scores(window.offset, window.context, window.taste), window)
            )
    return float(np.concatenate(found).mean()) if found else 0.0


def _half(window: Lists, place: int, half: int, count: int, columns: Sequence[int]) -> Lists:
    rows = np.arange(len(window.met))
    taken = rows % 2 == half if count == 1 else np.full(len(rows), place % 2 == half)
    return window.some(taken, columns)


def _screened(
    windows: Sequence[Window], generator: np.random.Generator, seed: int
) -> tuple[list[Recipe], dict[str, float]]:
    """The best recipe of each kind by NDCG@20 of its bare scores."""
    recent = windows[-CHOICE_WINDOWS:]
    recipes = recipes_for(recent[0].met.shape)
    found: list[list[Floats]] = [[] for _ in recipes]
    for window in recent:
        queries = _some(_queries(window), SCREENED // len(recent), generator)
        scorers = fit_scorers(window.known, recipes, seed)
        for start in range(0, len(queries), BLOCK):
            rows = queries[start : start + BLOCK]
            lists = _table(window, rows, None)
            for place, scorer in enumerate(scorers):
                table = scorer.scores(window.known.matrix[rows])
                found[place].append(gains(table, lists))
    means = [float(np.concatenate(parts).mean()) for parts in found]
    report = {recipe.label: mean for recipe, mean in zip(recipes, means, strict=True)}
    best: dict[str, int] = {}
    for place, recipe in enumerate(recipes):
        if recipe.kind not in best or means[place] > means[best[recipe.kind]]:
            best[recipe.kind] = place
    return [recipes[place] for place in best.values()], report


def _queries(window: Window) -> Rows:
    return np.flatnonzero(np.diff(window.met.indptr)).astype(np.int64)


def _some(rows: Rows, count: int, generator: np.random.Generator) -> Rows:
    if len(rows) <= count:
        return rows
    return np.sort(generator.choice(rows, count, replace=False))


def make_lists(
    window: Window, rows: Rows, scorers: Sequence[Scorer], activity: Activity | None
) -> Lists:
    """The lists of some queries with all features, over the candidates known in the window."""
    table = _table(window, rows, activity)
    taste: list[Floats] = []
    profiles = window.known.matrix[rows]
    for scorer in scorers:
        for feature in taste_features(scorer.scores(profiles), table.candidates):
            if activity is not None:
                feature -= centre(feature, table.candidates)
                feature *= table.candidates
            taste.append(feature)
    return Lists(table.candidates, table.met, table.offset, table.context, taste)


def _table(window: Window, rows: Rows, activity: Activity | None) -> Lists:
    known = window.known
    size = window.met.shape[1]
    open_candidates: Mask = np.bincount(known.items, minlength=size) > 0
    candidates = np.tile(open_candidates, (len(rows), 1))
    seen = known.seen[rows]
    candidates[np.repeat(np.arange(len(rows)), np.diff(seen.indptr)), seen.indices] = False
    met = np.asarray(window.met[rows].todense(), np.float32)
    features = context(known.items, size, known.times, window.clock)
    return Lists(candidates, met, *split_context(features, activity), [])


def centre(feature: Floats, candidates: Mask) -> Floats:
    """Each candidate's mean over queries. Without it taste says again, and worse, what activity has
    said: a candidate with many interactions is near to every query."""
    count = np.maximum(candidates.sum(axis=0), 1)
    mean: Floats = (np.where(candidates, feature, 0).sum(axis=0) / count).astype(np.float32)
    return mean


def split_context(features: Floats, activity: Activity | None) -> tuple[Floats, Floats]:
    """What is added as it is, and the features that get weights: with an activity model only the
    former, else only the latter."""
    if activity is None:
        return np.zeros(len(features), np.float32), features
    return activity.scores(features), np.zeros((len(features), 0), np.float32)
