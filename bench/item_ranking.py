"""`python -m bench.item_ranking --json OUT`: what re-ranking an event's items brings, on MovieLens.

At each of ten weekly cuts the service's quick model is fitted to what is known before. Each known
user who meets known items in the week after gets one event: a board of eight items they had not met
before, two (or one) of which they do meet, the others drawn by popularity. It comes in the order of
a publisher who knows popularity alone, or in a random one, and is re-ranked as on the way into the
pool. Compared are the event-level score and, as the truth, whether the first item and any of the
first three are met in the week. The interval redraws users.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.report import BenchReport, Metric
from services.candidate.index.fitting import fit_model
from services.candidate.index.part import Part
from services.candidate.index.prediction import Prediction
from services.candidate.index.tables import Tables
from services.candidate.item_ranking import SHOWN, best_first, event_scores, predicted
from services.candidate.models import Interactions
from services.candidate.sources import Catalogue
from services.candidate.sources.arrays import Floats, Mask, Rows
from services.candidate.sources.catalogue import NEVER
from simulation.download import load
from simulation.movielens import DatasetError, MovieLens
from simulation.world import interaction_weight

WEEK = 7 * 86_400
CUTS = tuple(range(21, 31))
"""Weeks after the first rating."""
BOARD = 8
MET = 2
FIGURES = ("event_score", "first_item_met", "one_of_first_three_met")
REDRAWS = 5_000
SEED = 1
PACKAGES = ("numpy", "scipy")


@dataclass(frozen=True, slots=True)
class Boards:
    """One event for each user: their rows, and items (users × BOARD), most popular first."""

    users: Rows
    items: Rows
    met: Mask
    """Users × BOARD: met in the week after."""


def known_at(data: MovieLens, end: int) -> Prediction:
    """What is known before a time, and the model fitted on it."""
    ratings = data.ratings.take(data.ratings.time < end)
    weights = np.array([interaction_weight(stars) for stars in range(6)], np.float32)
    interactions = Interactions(
        [user.user_id for user in data.users],
        [item.item_id for item in data.items],
        ratings.user.astype(np.int64),
        ratings.item.astype(np.int64),
        ratings.time.astype(np.float64),
        weights[ratings.stars],
    )
    count = len(data.items)
    tables = Tables.of(interactions, np.full(count, NEVER), np.ones(count, np.bool_))
    return Prediction.of(Part.of(fit_model(tables, seed=SEED)), tables, tables.catalogue())


def boards(
    data: MovieLens, catalogue: Catalogue, begin: int, random: np.random.Generator
) -> Boards:
    """The events of the week from `begin`."""
    week = data.ratings.take((data.ratings.time >= begin) & (data.ratings.time < begin + WEEK))
    there = catalogue.item_counts > 0
    users, items, met = [], [], []
    for user in np.unique(week.user):
        own = week.item[(week.user == user) & there[week.item]]
        if not len(own) or not catalogue.user_counts[user]:
            continue
        shown = random.permutation(own)[:MET].astype(np.int64)
        drawn = catalogue.item_counts.astype(np.float64)
        drawn[own] = 0
        drawn[catalogue.weights[[user]].indices] = 0
        others = random.choice(len(drawn), BOARD - len(shown), False, drawn / drawn.sum())
        board = np.concatenate((shown, others))
        board = board[np.argsort(-catalogue.item_counts[board], kind="stable")]
        users.append(user)
        items.append(board)
        met.append(np.isin(board, shown))
    return Boards(np.array(users, np.int64), np.stack(items), np.stack(met))


def figures(prediction: Prediction, made: Boards, order: Rows, *, ranked: bool) -> Floats:
    """Users × FIGURES of the boards in the publisher's `order` (users × BOARD), and from there
    re-ranked."""
    items = np.take_along_axis(made.items, order, axis=1).ravel()
    met = np.take_along_axis(made.met, order, axis=1).ravel()
    lengths = np.full(len(made.users), BOARD)
    users = np.repeat(made.users, BOARD)
    scores = predicted(prediction.catalogue, prediction, users, items)
    if ranked:
        better = best_first(scores, lengths)
        scores, met = scores[better], met[better]
    found = met.reshape(-1, BOARD)
    worth = event_scores(scores, lengths)
    return np.stack((worth, found[:, 0], found[:, :SHOWN].any(axis=1)), axis=1).astype(np.float32)


def compared(data: MovieLens) -> dict[str, tuple[Rows, Floats, Floats]]:
    """By the publisher's order: users, and their figures before and after re-ranking."""
    random, first = np.random.default_rng(SEED), int(data.ratings.time.min())
    parts: dict[str, list[tuple[Rows, Floats, Floats]]] = {"popular": [], "random": []}
    for cut in CUTS:
        prediction = known_at(data, first + cut * WEEK)
        made = boards(data, prediction.catalogue, first + cut * WEEK, random)
        popular = np.tile(np.arange(BOARD), (len(made.users), 1))
        for name, order in (("popular", popular), ("random", random.permuted(popular, axis=1))):
            before = figures(prediction, made, order, ranked=False)
            after = figures(prediction, made, order, ranked=True)
            parts[name].append((made.users, before, after))
    return {
        name: tuple(np.concatenate(columns) for columns in zip(*found, strict=True))  # type: ignore[misc]
        for name, found in parts.items()
    }


def gain(users: Rows, before: Floats, after: Floats) -> tuple[float, tuple[float, float]]:
    """Ratio of the means − 1, with the 95 % interval of a bootstrap that redraws users."""
    _, own = np.unique(users, return_inverse=True)
    sums = np.stack([np.bincount(own, weights=figure) for figure in (before, after)])
    drawn = np.random.default_rng(SEED).integers(0, sums.shape[1], (REDRAWS, sums.shape[1]))
    totals = sums[:, drawn].sum(axis=2)
    low, high = np.quantile(totals[1] / np.maximum(totals[0], 1e-12) - 1, (0.025, 0.975))
    return float(after.sum() / before.sum() - 1), (float(low), float(high))


def report(data: MovieLens) -> BenchReport:
    """All comparisons."""
    metrics, series = {}, {}
    for name, (users, before, after) in compared(data).items():
        for place, figure in enumerate(FIGURES):
            share, span = gain(users, before[:, place], after[:, place])
            label = f"{figure}_gain_over_{name}_order"
            metrics[label] = Metric(share, "share", 0.0, "higher", span)
        series[name] = {
            "events": len(users),
            "users": len(np.unique(users)),
            "before": dict(zip(FIGURES, before.mean(axis=0).tolist(), strict=True)),
            "after": dict(zip(FIGURES, after.mean(axis=0).tolist(), strict=True)),
        }
    return BenchReport("item_ranking", metrics, series, PACKAGES)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 1 when the data can't be used."""
    parser = argparse.ArgumentParser(prog="python -m bench.item_ranking", description=__doc__)
    parser.add_argument("--data", type=Path, default=None, help="folder with MovieLens 100K")
    parser.add_argument("--json", type=Path, required=True, help="where to write the figures")
    given = parser.parse_args(arguments)
    try:
        made = report(load(given.data))
    except DatasetError as error:
        print(error, file=sys.stderr)
        return 1
    made.print()
    made.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
