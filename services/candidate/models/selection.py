"""Chooses scorers and weights for one direction by what its validation windows hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from services.candidate.models.activity import (
    MOST_MOMENTS,
    PENALTIES,
    Activity,
    fit_activity,
    past_moments,
)
from services.candidate.models.combination import (
    Combination,
    Lists,
    fit_combination,
    gains,
    taste_features,
)
from services.candidate.models.context import Clock, context
from services.candidate.models.interactions import Interactions
from services.candidate.models.recipes import Recipe, fit_scorers, quick_recipe, recipes_for
from services.candidate.models.scorers import Scorer
from services.candidate.models.windows import Window
from services.candidate.sources.arrays import Floats, Mask, Rows

MOST_ENTRIES = 400_000
"""Pairs in all windows' lists together, unless LEAST_QUERIES of one window are more."""
LEAST_QUERIES = 300
SCREENED = 2_000
"""Queries, in all windows together, by which the scorers of a kind are compared."""
BLOCK = 256
QUICK_WINDOWS = 2
QUICK_MOMENTS = 30
CHOICE_WINDOWS = 4
"""The latest windows, by which scorers of one kind are compared."""


Effort = Literal["full", "quick"]
"""`full`: compare recipes and their combinations. `quick`: one recipe, few windows and moments."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a direction is fitted for."""

    forms: int
    """Of each scorer's scores, see `taste_features`; 1: the result has to be an index of vectors,
    so only scorers that are inner products take part."""
    effort: Effort
    seed: int


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
    known: Interactions, clock: Clock | None, windows: Sequence[Window], task: Task
) -> Choice:
    """Choose by the windows, all oriented as queries × candidates. Without a window the quick
    recipe with weights from a prior."""
    if not windows:
        features = context(known.items, len(known.item_ids), None, None)
        recipe = quick_recipe(known.matrix.shape)
        return Choice([recipe], Combination.prior(features, task.forms), None, {})
    generator = np.random.default_rng(task.seed)
    quick = task.effort == "quick"
    windows = windows[-QUICK_WINDOWS:] if quick else windows
    timed = clock is not None and windows[0].clock is not None
    activity = _activity(known, clock, windows, quick) if timed and clock else None
    recipes, report = [quick_recipe(known.matrix.shape)], dict[str, float]()
    if not quick:
        recipes, report = _screened(windows, generator, task)
    most = max(MOST_ENTRIES // windows[0].met.shape[1], LEAST_QUERIES) // len(windows)
    lists = []
    for window in windows:
        rows = _some(_queries(window), max(most, 1), generator)
        scorers = fit_scorers(window.known, recipes, task.seed)
        lists.append(make_lists(window, rows, scorers, activity, task.forms))
    if not quick:
        recipes, lists = _best(recipes, lists, task.forms, report)
    return Choice(recipes, fit_combination(lists), activity, report)


def _best(
    recipes: Sequence[Recipe], lists: Sequence[Lists], forms: int, report: dict[str, float]
) -> tuple[list[Recipe], list[Lists]]:
    """The best combination of recipes, and the lists with its features; adds to the report."""
    places = range(len(recipes))
    options = [subset for size in range(len(recipes) + 1) for subset in combinations(places, size)]
    found: dict[tuple[int, ...], float] = {}
    for subset in options:
        found[subset] = _cross_fitted(lists, _columns(subset, forms))
        label = " + ".join(["context", *(recipes[place].label for place in subset)])
        report[label] = found[subset]
    best = max(options, key=lambda subset: (found[subset], -len(subset)))
    columns = _columns(best, forms)
    chosen = [window.some(np.ones(len(window.met), np.bool_), columns) for window in lists]
    return [recipes[place] for place in best], chosen


def _activity(
    known: Interactions, clock: Clock, windows: Sequence[Window], quick: bool
) -> Activity:
    """With the penalty that does best on the later windows when fitted before them."""
    later = windows[len(windows) // 2 :]
    begin = later[0].clock
    if begin is None or len(windows) == 1 or quick:
        most = QUICK_MOMENTS if quick else MOST_MOMENTS
        return fit_activity(past_moments(known.transposed, clock, most), PENALTIES[1])
    early = past_moments(later[0].known.transposed, begin, MOST_MOMENTS)
    tables = [_table(window, _queries(window)[:SCREENED], None) for window in later]

    def gain(penalty: float) -> float:
        activity = fit_activity(early, penalty)
        found = [gains(activity.scores(table.context)[None, :], table) for table in tables]
        return float(np.concatenate(found).mean())

    moments = past_moments(known.transposed, clock, MOST_MOMENTS)
    return fit_activity(moments, max(PENALTIES, key=gain))


def _columns(subset: Sequence[int], forms: int) -> list[int]:
    return [place * forms + form for place in subset for form in range(forms)]


def _cross_fitted(lists: Sequence[Lists], columns: Sequence[int]) -> float:
    """Mean NDCG@20 of queries whose half (of the windows, or of the only window's queries) took no
    part in the fit."""
    halves = []
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
    windows: Sequence[Window], generator: np.random.Generator, task: Task
) -> tuple[list[Recipe], dict[str, float]]:
    """The best recipe of each kind by NDCG@20 of its bare scores."""
    recent = windows[-CHOICE_WINDOWS:]
    recipes = recipes_for(recent[0].met.shape, task.forms)
    found: list[list[Floats]] = [[] for _ in recipes]
    for window in recent:
        queries = _some(_queries(window), SCREENED // len(recent), generator)
        scorers = fit_scorers(window.known, recipes, task.seed)
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
    window: Window,
    rows: Rows,
    scorers: Sequence[Scorer],
    activity: Activity | None,
    forms: int,
) -> Lists:
    """The lists of some queries with all features, over the candidates known in the window."""
    table = _table(window, rows, activity)
    known = known_candidates(window.known)
    taste: list[Floats] = []
    profiles = window.known.matrix[rows]
    for scorer in scorers:
        for feature in taste_features(scorer.scores(profiles), known, forms):
            taste.append(feature - feature.mean(axis=0) if activity is not None else feature)
    return Lists(table.candidates, table.met, table.offset, table.context, taste)


def _table(window: Window, rows: Rows, activity: Activity | None) -> Lists:
    known = window.known
    size = window.met.shape[1]
    candidates = np.tile(known_candidates(known), (len(rows), 1))
    seen = known.seen[rows]
    candidates[np.repeat(np.arange(len(rows)), np.diff(seen.indptr)), seen.indices] = False
    met = np.asarray(window.met[rows].todense(), np.float32)
    features = context(known.items, size, known.times, window.clock)
    return Lists(candidates, met, *split_context(features, activity), [])


def known_candidates(known: Interactions) -> Mask:
    """Those that somebody interacted with."""
    found: Mask = np.bincount(known.items, minlength=len(known.item_ids)) > 0
    return found


def split_context(features: Floats, activity: Activity | None) -> tuple[Floats, Floats]:
    """What is added as it is, and the features that get weights: with an activity model only the
    former, else only the latter."""
    if activity is None:
        return np.zeros(len(features), np.float32), features
    return activity.scores(features), np.zeros((len(features), 0), np.float32)
