"""`python -m bench.candidate_quality --json OUT`: candidates on MovieLens 100K, both directions.

Two protocols. Global: at each of the last weekly cuts everything before the cut is known, and users
(items) known before it are the candidates; what known users first interact with in the week after
is to be found. Users who are new after the cut are no candidates and no warm queries; as queries
they are reported apart, ranked by their attributes. Per user: the last fifth of each user's
interactions is to be found. Settings of all rivals are chosen on earlier cuts (per user: on the
last fifth of what is known); the model chooses its own from what is known at each cut.

`--interactions F.parquet` takes a set of one's own (user_id, item_id, timestamp, optional weight)
in its place: the global protocol alone, with the cuts of `candidate_cuts.thirds`, without
attributes.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from bench.candidate_cuts import WEEK, thirds, weekly, weekly_of_known
from bench.candidate_reliability import (
    Reliability,
    item_reliability,
    model_scores,
    off,
    reliability,
    summed,
    told,
)
from bench.candidate_rivals import (
    FACTORED,
    FACTORS,
    ONE_SIDED,
    RIVALS,
    Rival,
    Setting,
    popular,
    with_factors,
)
from bench.report import BenchReport, Metric
from services.candidate.models import (
    FitOptions,
    InputError,
    Interactions,
    Side,
    fit,
    read_interactions,
)
from services.candidate.models.model import CandidateModel
from services.candidate.models.windows import Window, user_window
from services.candidate.sources.arrays import Floats, Mask, top_k
from simulation.download import load
from simulation.movielens import DatasetError, MovieLens

TUNING_CUTS = (14, 15, 16, 17)
TEST_CUTS = tuple(range(21, 31))
"""Weeks after the first rating."""
HELD_OUT = 0.2
SIDES: tuple[Side, Side] = ("items", "users")
FIGURES = ("recall20", "ndcg20", "recall50", "ndcg50")
REDRAWS = 5_000
LEAST_LEAD = 1.05
PACKAGES = ("numpy", "scipy", "implicit")


@dataclass(frozen=True, slots=True)
class Found:
    """Figures of each query (queries × FIGURES), and how often each candidate was in the top 20."""

    figures: Floats
    exposure: Floats


def interactions_of(data: MovieLens) -> Interactions:
    """Every rating is an interaction, whatever its stars."""
    ratings = data.ratings
    return Interactions(
        [user.user_id for user in data.users],
        [item.item_id for item in data.items],
        ratings.user.astype(np.int64),
        ratings.item.astype(np.int64),
        ratings.time.astype(np.float64),
        np.ones(len(ratings), np.float32),
    )


def judge(scores: Floats, window: Window, side: Side) -> Found:
    """Rank all candidates that the query hasn't interacted with; `scores` are users × items."""
    known, met, seen = window.known, window.met, window.known.seen
    if side == "users":
        known, met, seen, scores = known.transposed, csr_array(met.T), csr_array(seen.T), scores.T
    there: Mask = np.bincount(known.items, minlength=met.shape[1]) > 0
    queries = np.flatnonzero(np.diff(met.indptr))
    table = np.where(there, scores[queries], -np.inf)
    hidden = seen[queries]
    table[np.repeat(np.arange(len(queries)), np.diff(hidden.indptr)), hidden.indices] = -np.inf
    order = np.maximum(top_k(table, 50)[0], 0)
    exposure = np.bincount(order[:, :20].ravel(), minlength=len(there))[there]
    wanted = np.asarray(met[queries].todense(), np.float32)
    return Found(_figures(wanted, order), exposure.astype(np.float32))


def _figures(met: Floats, order: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> Floats:
    hits = np.take_along_axis(met, order, axis=1)
    many = met.sum(axis=1).astype(np.int64)
    found = []
    for count in (20, 50):
        discount = 1 / np.log2(np.arange(2, min(count, hits.shape[1]) + 2))
        best = np.cumsum(discount)[np.minimum(many, len(discount)) - 1]
        found.append(hits[:, :count].sum(axis=1) / many)
        found.append((hits[:, : len(discount)] * discount).sum(axis=1) / best)
    return np.stack(found, axis=1).astype(np.float32)


Chosen = dict[str, tuple[Setting, Setting | None]]


def tuned(windows: Sequence[Window], pool: Executor) -> dict[Side, Chosen]:
    """For each side the setting of each rival with the best NDCG@20 over the windows' queries."""
    chosen: dict[Side, Chosen] = {"items": {}, "users": {}}
    for part in pool.map(_tuned, RIVALS, repeat(windows)):
        for side in SIDES:
            chosen[side] |= part[side]
    return chosen


def _tuned(name: str, windows: Sequence[Window]) -> dict[Side, Chosen]:
    rival = RIVALS[name]
    sides = [side for side in SIDES if ONE_SIDED.get(name, side) == side]
    parts: dict[tuple[Side, Setting], list[Found]] = {}
    for setting in rival.settings:
        for window in windows:
            table = rival.scores(window.known, setting)
            for side in sides:
                parts.setdefault((side, setting), []).append(judge(table, window, side))
    chosen: dict[Side, Chosen] = {"items": {}, "users": {}}
    for side in sides:
        best = max(rival.settings, key=lambda setting: _mean(parts[side, setting]))
        chosen[side][name] = (best, None)
        if name in FACTORED:
            factors = _factors(rival, best, windows, side)
            chosen[side][f"{name}_with_factors"] = (best, factors)
    return chosen


def _factors(rival: Rival, setting: Setting, windows: Sequence[Window], side: Side) -> Setting:
    parts: dict[Setting, list[Found]] = {factors: [] for factors in FACTORS[side]}
    for window in windows:
        table = rival.scores(window.known, setting)
        for factors, found in parts.items():
            with_them = with_factors(table, window.known, side, factors)
            found.append(judge(with_them, window, side))
    return max(parts, key=lambda factors: _mean(parts[factors]))


def _mean(parts: Sequence[Found]) -> float:
    return float(np.concatenate([part.figures[:, 1] for part in parts]).mean())


def gini(counts: Floats) -> float:
    """0: all equally often; near 1: all exposure on one."""
    ordered = np.sort(counts.astype(np.float64))
    size, total = len(ordered), max(float(ordered.sum()), 1e-12)
    return float((2 * np.arange(1, size + 1) - size - 1) @ ordered / (size * total))


def lead(ours: Floats, theirs: Floats) -> tuple[float, tuple[float, float]]:
    """Ratio of the means, with the 95 % interval of a bootstrap that redraws queries in pairs."""
    drawn = np.random.default_rng(1).integers(0, len(ours), (REDRAWS, len(ours)))
    ratios = ours[drawn].mean(axis=1) / np.maximum(theirs[drawn].mean(axis=1), 1e-12)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(ours.mean() / max(theirs.mean(), 1e-12)), (float(low), float(high))


def attributes(data: MovieLens) -> tuple[dict[str, list[object]], dict[str, list[object]]]:
    """Columns of users and items."""
    users: dict[str, list[object]] = {
        "age": [user.age for user in data.users],
        "gender": [user.gender for user in data.users],
        "occupation": [user.occupation for user in data.users],
    }
    items: dict[str, list[object]] = {
        "genres": [item.genres for item in data.items],
        "year": [item.year or None for item in data.items],
    }
    return users, items


def cold_users(model: CandidateModel, window: Window) -> list[Found]:
    """Users who are new in the week: by their attributes, and the most popular items."""
    new = replace(window, met=window.by_new_users)
    return [
        judge(model_scores(model, "items"), new, "items"),
        judge(popular(window.known, (4.0,)), new, "items"),
    ]


@dataclass(frozen=True, slots=True)
class Judged:
    """One window: figures of all methods on both sides, and what else is told of our model where
    there are attributes."""

    found: Mapping[Side, Mapping[str, Found]]
    chosen: Mapping[Side, str]
    cold: Sequence[Found]
    """New users: ours, and the most popular items."""
    deciles: Reliability
    items: Reliability


def judged(
    window: Window, choices: Mapping[Side, Chosen], everything: Interactions, data: MovieLens | None
) -> Judged:
    """Fit and judge our model and all rivals on a window; without attributes where there is no
    `data`."""
    options = FitOptions(WEEK) if window.clock else FitOptions(split="user")
    model = fit(window.known, options, *(attributes(data) if data else ()))
    found: dict[Side, dict[str, Found]] = {side: {} for side in SIDES}
    made: dict[tuple[str, Setting], Floats] = {}
    for side in SIDES:
        found[side]["heliograph"] = judge(model_scores(model, side), window, side)
        for name, (setting, factors) in choices[side].items():
            key = name.removesuffix("_with_factors"), setting
            if key not in made:
                made[key] = RIVALS[key[0]].scores(window.known, setting)
            table = made[key]
            if factors is not None:
                table = with_factors(table, window.known, side, factors)
            found[side][name] = judge(table, window, side)
    chosen = {side: model.directions[side].label for side in SIDES}
    if window.clock is None or data is None:
        return Judged(found, chosen, [], [], [])
    cold = cold_users(model, window)
    items = item_reliability(model, everything, window)
    return Judged(found, chosen, cold, reliability(model, window), items)


def gathered(parts: Sequence[Judged]) -> dict[Side, dict[str, list[Found]]]:
    """Figures by side and method."""
    return {
        side: {name: [part.found[side][name] for part in parts] for name in parts[0].found[side]}
        for side in SIDES
    }


def metrics_of(found: Mapping[Side, Mapping[str, Sequence[Found]]], name: str) -> dict[str, Metric]:
    """Ours over the best rival, which is the one with the best figure in the test."""
    metrics = {}
    for side, methods in found.items():
        tables = {key: np.concatenate([f.figures for f in parts]) for key, parts in methods.items()}
        for place, figure in enumerate(FIGURES):
            best = max(
                (key for key in tables if key != "heliograph"),
                key=lambda key: float(tables[key][:, place].mean()),
            )
            ratio, span = lead(tables["heliograph"][:, place], tables[best][:, place])
            goal = LEAST_LEAD if side == "users" else 1.0
            label = f"{name}_{side}_{figure}_over_{best}"
            metrics[label] = Metric(ratio, "ratio", goal, "higher", span)
    return metrics


def summary(found: Mapping[Side, Mapping[str, Sequence[Found]]]) -> dict[str, dict[str, object]]:
    """Means of all methods, with coverage and Gini of the top 20 over candidates."""
    told: dict[str, dict[str, object]] = {}
    for side, methods in found.items():
        for name, parts in methods.items():
            means = np.concatenate([part.figures for part in parts]).mean(axis=0)
            figures = dict(zip(FIGURES, (float(mean) for mean in means), strict=True))
            cover = [float((part.exposure > 0).mean()) for part in parts]
            uneven = [gini(part.exposure) for part in parts]
            more = {"coverage": float(np.mean(cover)), "gini": float(np.mean(uneven))}
            told[f"{side}: {name}"] = {**figures, **more}
    return told


def run(data: MovieLens) -> BenchReport:
    """Both protocols."""
    everything = interactions_of(data)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        metrics, series = over_time(everything, data, pool)
        last = user_window(everything, 1, HELD_OUT)
        choices = tuned([user_window(last.known, 1, HELD_OUT)], pool)
        own = judged(last, choices, everything, data)
    found = gathered([own])
    metrics |= metrics_of(found, "per_user")
    series["per_user"] = summary(found)
    series["per_user_settings"] = choices
    series["per_user_chosen"] = own.chosen
    return BenchReport("candidate_quality", metrics, series, PACKAGES)


def over_time(
    everything: Interactions, data: MovieLens, pool: Executor
) -> tuple[dict[str, Metric], dict[str, object]]:
    """The protocol with weekly cuts, tuned on earlier ones."""
    choices = tuned([weekly(everything, cut) for cut in TUNING_CUTS], pool)
    tests = [weekly(everything, cut) for cut in TEST_CUTS]
    parts = list(pool.map(judged, tests, repeat(choices), repeat(everything), repeat(data)))
    found = gathered(parts)
    metrics = metrics_of(found, "global")
    ours, theirs = (np.concatenate([part.cold[k].figures for part in parts]) for k in (0, 1))
    ratio, span = lead(ours[:, 1], theirs[:, 1])
    metrics["cold_users_ndcg20_over_most_popular"] = Metric(ratio, "ratio", 1.0, "higher", span)
    deciles = summed([part.deciles for part in parts])
    kinds = summed([part.items for part in parts])
    metrics["calibration_error_by_activity_decile"] = Metric(off(deciles), "share", 0.5, "lower")
    metrics["calibration_error_known_items"] = Metric(off(kinds[:1]), "share", 0.5, "lower")
    metrics["calibration_error_new_items"] = Metric(off(kinds[1:]), "share", 0.5, "lower")
    return metrics, {
        "global": summary(found),
        "global_settings": choices,
        "global_chosen": [part.chosen for part in parts],
        "reliability_by_activity_decile": told(deciles),
        "reliability_known_and_new_items": told(kinds),
    }


def run_set(everything: Interactions) -> BenchReport:
    """The global protocol on a set of one's own. Raises ValueError when it is too short."""
    tuning, testing = thirds(everything)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        choices = tuned([weekly_of_known(everything, cut) for cut in tuning], pool)
        tests = [weekly_of_known(everything, cut) for cut in testing]
        parts = list(pool.map(judged, tests, repeat(choices), repeat(everything), repeat(None)))
    found = gathered(parts)
    series: dict[str, object] = {
        "global": summary(found),
        "global_settings": choices,
        "global_chosen": [part.chosen for part in parts],
        "cuts": {"tuning": list(tuning), "test": list(testing)},
    }
    return BenchReport("candidate_quality_set", metrics_of(found, "global"), series, PACKAGES)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 1 when the data can't be used."""
    parser = argparse.ArgumentParser(prog="python -m bench.candidate_quality", description=__doc__)
    parser.add_argument("--interactions", type=Path, metavar="PARQUET")
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    given = parser.parse_args(arguments)
    try:
        own = given.interactions
        report = run_set(read_interactions(own)) if own else run(load())
    except (DatasetError, InputError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    report.print()
    report.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
