"""Chooses scorers and weights for one direction by what its validation windows hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from services.candidate.models.activity import Activity
from services.candidate.models.ascent import Scale, ShortLists, ascend, joined, shorten
from services.candidate.models.blocks import blocks
from services.candidate.models.combination import (
    Combination,
    Lists,
    fit_combination,
    gains,
    taste_features,
)
from services.candidate.models.context import Clock, context
from services.candidate.models.interactions import Interactions
from services.candidate.models.recipes import (
    POWER_STEPS,
    Recipe,
    fit_scorers,
    neighbours,
    quick_recipe,
    recipes_for,
)
from services.candidate.models.scorers import Scorer
from services.candidate.models.windows import Window
from services.candidate.sources.arrays import Floats, Mask, Matrix, Rows

MOST_ENTRIES = 400_000
"""Pairs in all windows' lists together, unless LEAST_QUERIES of one window are more."""
LEAST_QUERIES = 300
LARGEST = 20_000_000
"""Pairs in all lists together, however many candidates there are; one query is always taken."""
SCREENED = 2_000
"""Queries, in all windows together, by which the scorers of a kind are compared."""
REFINED = 1_000
"""Queries by which powers of degrees are refined."""
ASCENDED = 2_000
REFERENCES = 256
"""Queries over which a candidate's mean taste is taken."""
QUICK_ASCENDED = 500
"""Queries by which a combination is found where there is no time."""
QUICK_WINDOWS = 2
MOST_KNOWN = 4_000_000
"""Interactions that are known in all windows together, unless two windows have more."""
STRENGTHS = (1.0, 0.5, 0.25, 0.1)
"""Of taste, that are tried where there is time."""
CHOICE_WINDOWS = 4
"""The latest windows, by which scorers of one kind are compared."""


Effort = Literal["full", "quick"]
"""`full`: compare recipes and their combinations. `quick`: one recipe, few windows and moments."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a direction is fitted for."""

    forms: int
    """Of each scorer's scores, see `taste_features`."""
    dense: bool
    """Whether scorers that are no inner products take part; else the result is an index of
    vectors."""
    effort: Effort
    seed: int


@dataclass(frozen=True, eq=False, slots=True)
class Choice:
    """What was chosen for a direction."""

    recipes: Sequence[Recipe]
    combination: Combination
    report: dict[str, float]
    """Validation NDCG@20 of everything that was compared, by its label."""


def choose(
    known: Interactions, windows: Sequence[Window], activity: Activity | None, task: Task
) -> Choice:
    """Choose by the windows, all oriented as queries × candidates. `activity`: of the candidates;
    None without windows in time. Without a window the quick recipe with weights from a prior."""
    if not windows:
        features = context(known.items, len(known.item_ids), None, None)
        recipe = quick_recipe(known.matrix.shape, timed=False)
        return Choice([recipe], Combination.prior(features, task.forms), {})
    if activity is None:
        return _timeless(windows[-1], task)
    generator = np.random.default_rng(task.seed)
    quick = task.effort == "quick"
    windows = windows[-(QUICK_WINDOWS if quick else _affordable(windows)) :]
    recipes, report = [quick_recipe(known.matrix.shape, timed=True)], dict[Recipe, float]()
    if not quick:
        recent = windows[-CHOICE_WINDOWS:]
        report = _screened(
            recent, recipes_for(recent[0].met.shape, dense=task.dense, timed=True), SCREENED, task
        )
        recipes = _best_of_kinds(report)
    labelled = {recipe.label: mean for recipe, mean in report.items()}
    size = windows[0].met.shape[1]
    most = min(max(MOST_ENTRIES // size, LEAST_QUERIES), LARGEST // size) // len(windows)
    lists = []
    for window in windows:
        rows = _some(_queries(window), max(most, 1), generator)
        scorers = fit_scorers(window.known, recipes, task.seed)
        lists.append(make_lists(window, rows, scorers, activity, task.forms))
    if quick:
        return Choice(recipes, fit_combination(lists), labelled)
    recipes, lists = _best(recipes, lists, task.forms, labelled)
    strength = _strength(lists, labelled)
    return Choice(recipes, fit_combination(lists).tempered(strength), labelled)


def _affordable(windows: Sequence[Window]) -> int:
    """How many of the latest windows are looked at."""
    return max(MOST_KNOWN // max(len(windows[-1].known), 1), QUICK_WINDOWS)


def _timeless(window: Window, task: Task) -> Choice:
    """Where there is no time: refined powers, and the combination by coordinate ascent."""
    quick = task.effort == "quick"
    report: dict[Recipe, float] = {}
    recipes = [quick_recipe(window.known.matrix.shape, timed=False)]
    if not quick:
        recipes = recipes_for(window.met.shape, dense=task.dense, timed=False)
        report = _screened([window], recipes, SCREENED, task)
        report |= _refined(window, report, task)
        recipes = _best_of_kinds(report)
    rows = _some(
        _queries(window),
        QUICK_ASCENDED if quick else ASCENDED,
        np.random.default_rng(task.seed + 1),
    )
    scale = Scale.of(context_of(window.known, None, None)[1][known_candidates(window.known)])
    scorers = fit_scorers(window.known, recipes, task.seed)
    centres = centres_of(window.known, scorers, task)
    parts: list[ShortLists] = []
    for _, part in blocks(rows, window.met.shape[1]):
        parts.append(shorten(make_lists(window, part, scorers, None, task.forms, centres), scale))
    lists, context = joined(parts), len(scale.middle)
    starts = range(context, context + len(recipes) * task.forms, task.forms)
    reached = [ascend(lists, scale, start) for start in starts]
    combination, best = max(reached, key=lambda pair: pair[1])
    told = {recipe.label: value for recipe, value in report.items()}
    recipes, combination = _used(recipes, combination, task.forms)
    return Choice(recipes, combination, {**told, "combination": best})


def _used(
    recipes: Sequence[Recipe], combination: Combination, forms: int
) -> tuple[list[Recipe], Combination]:
    """Without the recipes whose weights are 0."""
    context = len(combination.middle)
    taste = combination.weights[context:].reshape(len(recipes), forms)
    kept = np.flatnonzero(taste.any(axis=1)).tolist()
    weights = np.concatenate([combination.weights[:context], taste[kept].ravel()])
    return [recipes[place] for place in kept], replace(combination, weights=weights)


def _refined(window: Window, found: Mapping[Recipe, float], task: Task) -> dict[Recipe, float]:
    """Powers around the best ones, as long as that gains."""
    linear = [recipe for recipe in found if recipe.kind == "linear"]
    if not linear:
        return {}
    best = max(linear, key=found.__getitem__)
    tried = _screened([window], [best], REFINED, task)
    for step in POWER_STEPS:
        while True:
            near = [recipe for recipe in neighbours(best, step) if recipe not in tried]
            tried |= _screened([window], near, REFINED, task)
            better = max(tried, key=tried.__getitem__)
            if better == best:
                break
            best = better
    return _screened([window], [best], SCREENED, task)


def _best(
    recipes: Sequence[Recipe], lists: Sequence[Lists], forms: int, report: dict[str, float]
) -> tuple[list[Recipe], list[Lists]]:
    """The best combination of recipes, and the lists with its features; adds to the report. At
    least one: without taste all queries get one list, which few windows may favour by chance."""
    sizes = range(1, len(recipes) + 1)
    options = [subset for size in sizes for subset in combinations(range(len(recipes)), size)]
    found: dict[tuple[int, ...], float] = {}
    for subset in options:
        found[subset] = _cross_fitted(lists, _columns(subset, forms))[1.0]
        label = " + ".join(["context", *(recipes[place].label for place in subset)])
        report[label] = found[subset]
    best = max(options, key=lambda subset: (found[subset], -len(subset)))
    columns = _columns(best, forms)
    chosen = [window.some(np.ones(len(window.met), np.bool_), columns) for window in lists]
    return [recipes[place] for place in best], chosen


def _strength(lists: Sequence[Lists], report: dict[str, float]) -> float:
    """By what the fitted weights of taste are multiplied. The likelihood speaks of all candidates;
    among the few most active ones, who make the lists, taste may deserve less."""
    found = _cross_fitted(lists, range(len(lists[0].taste)), STRENGTHS)
    for strength, mean in found.items():
        report[f"strength {strength:g}"] = mean
    return max(found, key=found.__getitem__)


def _columns(subset: Sequence[int], forms: int) -> list[int]:
    return [place * forms + form for place in subset for form in range(forms)]


def _cross_fitted(
    lists: Sequence[Lists], columns: Sequence[int], strengths: Sequence[float] = (1.0,)
) -> dict[float, float]:
    """By strength of taste, mean NDCG@20 of queries whose half (of the windows, or of the only
    window's queries) took no part in the fit."""
    halves = []
    for half in (0, 1):
        part = [
            _half(window, place, half, len(lists), columns) for place, window in enumerate(lists)
        ]
        halves.append([window for window in part if len(window.met)])
    found: dict[float, list[Floats]] = {strength: [] for strength in strengths}
    for fitted, judged in ((halves[0], halves[1]), (halves[1], halves[0])):
        if not fitted:
            continue
        combination = fit_combination(fitted)
        for strength, parts in found.items():
            tempered = combination.tempered(strength)
            for window in judged:
                scores = tempered.scores(window.offset, window.context, window.taste)
                parts.append(gains(scores, window))
    return {
        strength: float(np.concatenate(parts).mean()) if parts else 0.0
        for strength, parts in found.items()
    }


def _half(window: Lists, place: int, half: int, count: int, columns: Sequence[int]) -> Lists:
    rows = np.arange(len(window.met))
    taken = rows % 2 == half if count == 1 else np.full(len(rows), place % 2 == half)
    return window.some(taken, columns)


def _screened(
    windows: Sequence[Window], recipes: Sequence[Recipe], count: int, task: Task
) -> dict[Recipe, float]:
    """NDCG@20 of the bare scores of each recipe, over `count` queries."""
    generator = np.random.default_rng(task.seed)
    found: list[list[Floats]] = [[] for _ in recipes]
    for window in windows if recipes else ():
        queries = _some(_queries(window), count // len(windows), generator)
        scorers = fit_scorers(window.known, recipes, task.seed)
        for _, rows in blocks(queries, window.met.shape[1]):
            lists = _table(window, rows, None)
            for place, scorer in enumerate(scorers):
                table = scorer.scores(window.known.matrix[rows])
                found[place].append(gains(table, lists))
    means = [float(np.concatenate(parts).mean()) for parts in found]
    return dict(zip(recipes, means, strict=True))


def _best_of_kinds(report: Mapping[Recipe, float]) -> list[Recipe]:
    best: dict[str, Recipe] = {}
    for recipe, mean in report.items():
        if recipe.kind not in best or mean > report[best[recipe.kind]]:
            best[recipe.kind] = recipe
    return list(best.values())


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
    centres: Floats | None = None,
) -> Lists:
    """The lists of some queries with all features, over the candidates known in the window.
    `centres`: see `centres_of`; None: those of these queries."""
    table = _table(window, rows, activity)
    known = known_candidates(window.known)
    taste: list[Floats] = []
    profiles = window.known.matrix[rows]
    for scorer in scorers:
        for feature in taste_features(scorer.scores(profiles), known, forms):
            taste.append(
                feature - (feature.mean(axis=0) if centres is None else centres[len(taste)])
            )
    return Lists(table.candidates, table.met, table.offset, table.context, taste)


def centres_of(known: Interactions, scorers: Sequence[Scorer], task: Task) -> Floats:
    """Each candidate's mean over queries, of each feature of taste. Without it taste says again,
    and worse, what activity has said: a candidate with many interactions is near to every query."""
    profiles, there = references(known, task.seed), known_candidates(known)
    centres = np.zeros((task.forms * len(scorers), len(there)), np.float32)
    place = 0
    for scorer in scorers:
        for feature in taste_features(scorer.scores(profiles), there, task.forms):
            centres[place] = feature.mean(axis=0)
            place += 1
    return centres


def references(known: Interactions, seed: int) -> Matrix:
    """Profiles of some queries, over which means are taken."""
    rows = np.flatnonzero(np.diff(known.matrix.indptr)).astype(np.int64)
    return known.matrix[_some(rows, REFERENCES, np.random.default_rng(seed))]


def _table(window: Window, rows: Rows, activity: Activity | None) -> Lists:
    known = window.known
    candidates = np.tile(known_candidates(known), (len(rows), 1))
    seen = known.seen[rows]
    candidates[np.repeat(np.arange(len(rows)), np.diff(seen.indptr)), seen.indices] = False
    met = np.asarray(window.met[rows].todense(), np.float32)
    return Lists(candidates, met, *context_of(known, window.clock, activity), [])


def known_candidates(known: Interactions) -> Mask:
    """Those that somebody interacted with."""
    found: Mask = np.bincount(known.items, minlength=len(known.item_ids)) > 0
    return found


def context_of(
    known: Interactions, clock: Clock | None, activity: Activity | None
) -> tuple[Floats, Floats]:
    """Of the candidates at the clock: what is added as it is, and the features that get weights;
    with an activity model only the former, else only the latter."""
    size = len(known.item_ids)
    if activity is None or clock is None:
        features = context(known.items, size, known.times, clock)
        return np.zeros(size, np.float32), features
    return activity.of_users(known.transposed, clock)[:-1], np.zeros((size, 0), np.float32)
