"""Weights of a combination without timestamps: coordinate ascent on NDCG@20 itself (Metzler &
Croft, "Linear feature-based models for information retrieval", Information Retrieval 2007).

It begins at each scorer alone, and each step has to gain: on the validation queries the best
combination isn't behind its best part. Only the tops of the features are kept of each query's list:
memory doesn't grow with the number of candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.candidate.models.combination import DECIMALS, Combination, Lists, Weights
from services.candidate.sources.arrays import Floats, Mask

TOP = 100
"""Of each feature, that a short list holds."""
LISTED = 20
STEPS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""In units of a standardised feature."""
LEAST_GAIN = 1e-3
"""Of a step, as a share of NDCG: less is chance."""
MOST_SWEEPS = 5


@dataclass(frozen=True, eq=False, slots=True)
class ShortLists:
    """Of some queries, the candidates that may be among the best."""

    features: Floats
    """Features × queries × places: context first, standardised, then taste."""
    there: Mask
    """Queries × places: places that hold a candidate."""
    met: Mask
    """Queries × places."""
    ideal: Floats
    """Queries: the discounted gain of the best list."""


@dataclass(frozen=True, eq=False, slots=True)
class Scale:
    """Of the context, as `Combination` has it."""

    middle: Floats
    spread: Floats

    @classmethod
    def of(cls, context: Floats) -> "Scale":
        """From candidates × features."""
        return cls(context.mean(axis=0), context.std(axis=0) + np.float32(1e-3))


def shorten(lists: Lists, scale: Scale) -> ShortLists:
    """Keep the union of the tops of all features."""
    standard = ((lists.context - scale.middle) / scale.spread).T
    shape = lists.candidates.shape
    tables = [*(np.broadcast_to(row, shape) for row in standard), *lists.taste]
    width = min(TOP, shape[1])
    tops = []
    for table in tables:
        open_table = np.where(lists.candidates, -table, np.inf)
        tops.append(np.argpartition(open_table, width - 1, axis=1)[:, :width])
    places = np.sort(np.concatenate(tops, axis=1), axis=1)
    there = np.take_along_axis(lists.candidates, places, axis=1)
    there[:, 1:] &= places[:, 1:] != places[:, :-1]
    features = np.stack([np.take_along_axis(table, places, axis=1) for table in tables])
    met = np.take_along_axis(lists.met, places, axis=1) > 0
    many = np.minimum((lists.met > 0).sum(axis=1), LISTED)
    ideal = np.concatenate([[1.0], np.cumsum(_discount(LISTED))])[many]
    return ShortLists(features.astype(np.float32), there, met, ideal.astype(np.float32))


def joined(parts: Sequence[ShortLists]) -> ShortLists:
    """Of all queries; the parts have the same features and places."""
    return ShortLists(
        np.concatenate([part.features for part in parts], axis=1),
        np.concatenate([part.there for part in parts]),
        np.concatenate([part.met for part in parts]),
        np.concatenate([part.ideal for part in parts]),
    )


def ascend(lists: ShortLists, scale: Scale, start: int) -> tuple[Combination, float]:
    """The combination, and its NDCG@20 on the lists. `start`: the feature to begin at."""
    weights: Weights = np.zeros(len(lists.features))
    weights[start] = 1.0
    scores = lists.features[start].copy()
    reached = ndcg(lists, scores)
    for _ in range(MOST_SWEEPS):
        before = reached
        for place, feature in enumerate(lists.features):
            step, gained = _best_step(lists, scores, feature)
            if gained > reached * (1 + LEAST_GAIN):
                weights[place] += step
                scores += np.float32(step) * feature
                reached = gained
        if reached == before:
            break
    weights = np.round(weights, DECIMALS)
    return Combination(scale.middle, scale.spread, weights), reached


def _best_step(lists: ShortLists, scores: Floats, feature: Floats) -> tuple[float, float]:
    found = {
        step: ndcg(lists, scores + np.float32(step) * feature)
        for size in STEPS
        for step in (size, -size)
    }
    best = max(found, key=found.__getitem__)
    return best, found[best]


def ndcg(lists: ShortLists, scores: Floats) -> float:
    """Mean NDCG@20 of queries."""
    table = np.where(lists.there, -scores, np.inf)
    width = min(LISTED, table.shape[1])
    chosen = np.argpartition(table, width - 1, axis=1)[:, :width]
    order = np.argsort(np.take_along_axis(table, chosen, axis=1), axis=1, kind="stable")
    chosen = np.take_along_axis(chosen, order, axis=1)
    hits = np.take_along_axis(lists.met & lists.there, chosen, axis=1)
    return float(((hits @ _discount(width)) / lists.ideal).mean())


def _discount(count: int) -> Floats:
    found: Floats = (1 / np.log2(np.arange(2, count + 2))).astype(np.float32)
    return found
