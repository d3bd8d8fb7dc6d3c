"""`python -m bench.candidate_quality --json OUT`: candidates on MovieLens 100K, both directions.

Two protocols. Global: at each of the last weekly cuts everything before the cut is known, and users
(items) known before it are the candidates; what known users first interact with in the week after
is to be found. Users who are new after the cut are no candidates and no warm queries; as queries
they are reported apart, ranked by their attributes. Per user: the last fifth of each user's
interactions is to be found. Settings of all rivals are chosen on earlier cuts (per user: on the
last fifth of what is known); the model chooses its own from what is known at each cut.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.candidate_rivals import (
    FACTORED,
    FACTORS,
    ONE_SIDED,
    RIVALS,
    Setting,
    popular,
    with_factors,
)
from bench.report import BenchReport, Metric
from services.candidate.models import FitOptions, Interactions, Side, fit
from services.candidate.models.context import Clock
from services.candidate.models.model import CandidateModel
from services.candidate.models.windows import Window, split_at, user_window
from services.candidate.sources.arrays import Floats, Mask
from simulation.download import load
from simulation.movielens import DatasetError, MovieLens

WEEK = 7 * 86400.0
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


def weekly(everything: Interactions, cut: int) -> Window:
    """What is known at the cut, and what known users first met in the week after it."""
    times = everything.times
    assert times is not None
    return split_at(everything, Clock(float(times.min()) + cut * WEEK, WEEK))


def judge(scores: Floats, window: Window, side: Side) -> Found:
    """Rank all candidates that the query hasn't interacted with; `scores` are users × items."""
    met = np.asarray(window.met.todense(), np.float32)
    known, seen = window.known, np.asarray(window.known.seen.todense()) > 0
    there: Mask = np.bincount(known.items, minlength=met.shape[1]) > 0
    if side == "users":
        met, seen, scores = met.T, seen.T, scores.T
        there = np.bincount(known.users, minlength=met.shape[1]) > 0
    queries = np.flatnonzero(met.any(axis=1))
    table = np.where(there & ~seen[queries], scores[queries], -np.inf)
    order = np.argsort(-table, axis=1, kind="stable")[:, :50]
    exposure = np.bincount(order[:, :20].ravel(), minlength=len(there))[there]
    return Found(_figures(met[queries], order), exposure.astype(np.float32))


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


def tuned(windows: Sequence[Window], side: Side) -> dict[str, tuple[Setting, Setting | None]]:
    """The setting of each rival with the best NDCG@20 over the windows' queries."""
    chosen: dict[str, tuple[Setting, Setting | None]] = {}
    for name, rival in RIVALS.items():
        if ONE_SIDED.get(name, side) != side:
            continue
        best = max(
            rival.settings,
            key=lambda setting: _mean(
                [judge(rival.scores(w.known, setting), w, side) for w in windows]
            ),
        )
        chosen[name] = (best, None)
        if name in FACTORED:
            bare = [rival.scores(w.known, best) for w in windows]
            factors = max(
                FACTORS[side],
                key=lambda setting: _mean(
                    [
                        judge(with_factors(scores, w.known, side, setting), w, side)
                        for scores, w in zip(bare, windows, strict=True)
                    ]
                ),
            )
            chosen[f"{name}_with_factors"] = (best, factors)
    return chosen


def _mean(parts: Sequence[Found]) -> float:
    return float(np.concatenate([part.figures[:, 1] for part in parts]).mean())


def rival_scores(
    name: str, choice: tuple[Setting, Setting | None], w: Window, side: Side
) -> Floats:
    """A rival's scores with its chosen setting."""
    scores = RIVALS[name.removesuffix("_with_factors")].scores(w.known, choice[0])
    return scores if choice[1] is None else with_factors(scores, w.known, side, choice[1])


def model_scores(model: CandidateModel, side: Side) -> Floats:
    """Our scores, users × items."""
    rows = np.arange(len(model.user_ids if side == "items" else model.item_ids))
    table = np.concatenate([scores for _, scores, _ in model.scored(side, rows)])
    return table if side == "items" else table.T


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


def cold_users(model: CandidateModel, everything: Interactions, window: Window) -> list[Found]:
    """Users who are new in the week: by their attributes, and the most popular items."""
    clock, times = window.clock, everything.times
    assert clock is not None
    assert times is not None
    week = (times >= clock.now) & (times < clock.now + clock.horizon)
    old = np.bincount(window.known.users, minlength=len(everything.user_ids)) > 0
    there = np.bincount(window.known.items, minlength=len(everything.item_ids)) > 0
    part = everything.take(week & ~old[everything.users] & there[everything.items])
    new = Window(window.known, part.matrix, clock)
    return [
        judge(model_scores(model, "items"), new, "items"),
        judge(popular(window.known, (4.0,)), new, "items"),
    ]


def calibration_rows(model: CandidateModel, window: Window) -> list[tuple[float, float, float]]:
    """For the users in deciles of predicted activity: pairs, predicted, and observed share."""
    scores = model_scores(model, "items")
    seen = np.asarray(window.known.seen.todense()) > 0
    known = np.flatnonzero(np.bincount(window.known.users, minlength=len(seen)))
    relevance = model.relevance("items", known, scores[known])
    pairs = np.isfinite(scores[known]) & ~seen[known]
    met = np.asarray(window.met[known].todense()) > 0
    expected = np.where(pairs, relevance, 0).sum(axis=1)
    found = []
    for rows in np.array_split(np.argsort(expected, kind="stable"), 10):
        found.append(
            (float(pairs[rows].sum()), float(expected[rows].sum()), float(met[rows].sum()))
        )
    return found


def compare(
    windows: Sequence[Window],
    models: Sequence[CandidateModel],
    choices: Mapping[Side, Mapping[str, tuple[Setting, Setting | None]]],
) -> dict[Side, dict[str, list[Found]]]:
    """Figures of our model and all rivals on the windows."""
    found: dict[Side, dict[str, list[Found]]] = {}
    for side in SIDES:
        found[side] = {
            "heliograph": [
                judge(model_scores(model, side), window, side)
                for model, window in zip(models, windows, strict=True)
            ]
        }
        for name, choice in choices[side].items():
            found[side][name] = [
                judge(rival_scores(name, choice, window, side), window, side) for window in windows
            ]
    return found


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
    users, items = attributes(data)
    series: dict[str, object] = {}
    tuning = [weekly(everything, cut) for cut in TUNING_CUTS]
    tests = [weekly(everything, cut) for cut in TEST_CUTS]
    choices = {side: tuned(tuning, side) for side in SIDES}
    models = [fit(window.known, FitOptions(WEEK), users, items) for window in tests]
    found = compare(tests, models, choices)
    metrics = metrics_of(found, "global")
    series["global"] = summary(found)
    series["global_settings"] = {side: dict(choices[side]) for side in SIDES}
    series["global_chosen"] = [
        {s: [r.label for r in m.directions[s].recipes] for s in SIDES} for m in models
    ]
    cold = [cold_users(m, everything, w) for m, w in zip(models, tests, strict=True)]
    ours, theirs = (np.concatenate([part[k].figures for part in cold]) for k in (0, 1))
    ratio, span = lead(ours[:, 1], theirs[:, 1])
    metrics["cold_users_ndcg20_over_most_popular"] = Metric(ratio, "ratio", 1.0, "higher", span)
    deciles = np.sum([calibration_rows(m, w) for m, w in zip(models, tests, strict=True)], axis=0)
    series["reliability_by_activity_decile"] = {
        "pairs": deciles[:, 0].tolist(),
        "expected": deciles[:, 1].tolist(),
        "observed": deciles[:, 2].tolist(),
    }
    total = float(deciles[:, 1].sum() / max(deciles[:, 2].sum(), 1))
    metrics["expected_over_observed_interactions"] = Metric(total, "ratio", 1.25, "lower")
    last = user_window(everything, 1, HELD_OUT)
    before = user_window(last.known, 1, HELD_OUT)
    own = {side: tuned([before], side) for side in SIDES}
    model = fit(last.known, FitOptions(split="user"), users, items)
    per_user = compare([last], [model], own)
    metrics |= metrics_of(per_user, "per_user")
    series["per_user"] = summary(per_user)
    return BenchReport("candidate_quality", metrics, series, PACKAGES)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 1 when the data can't be used."""
    parser = argparse.ArgumentParser(prog="python -m bench.candidate_quality", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    given = parser.parse_args(arguments)
    try:
        report = run(load())
    except DatasetError as error:
        print(error, file=sys.stderr)
        return 1
    report.print()
    report.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
