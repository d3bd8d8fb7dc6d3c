"""From a score to the probability that the pair interacts within the horizon.

A logistic regression (Platt, "Probabilistic Outputs for Support Vector Machines", 1999) on the
combined score and the query's activity (without timestamps: its count), over pairs of the last
validation windows. Its slopes have a prior, the score as it is; its level is the one at which as
much is expected as was met. Where nothing could be held out nothing tells what a score is worth:
then all pairs have the rate with which known pairs are met.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import expit, logit

from services.candidate.models.combination import DECIMALS, Weights
from services.candidate.sources.arrays import Floats, Mask

PRIOR = 1.0
"""Deviation of the weights of standardised features about their prior."""
LEAST_SLOPE = 1e-3
"""Relevance must not change the order of the scores."""
MOST = 1 - 1e-9
"""The largest share of pairs that is expected to be met."""
MARGIN = 1.0
"""About the bounds between which a level is searched."""


@dataclass(frozen=True, eq=False, slots=True)
class Calibration:
    """Weights: of the score, of the query's features, and the intercept."""

    weights: Weights

    @classmethod
    def flat(cls, rate: float, features: int) -> Self:
        """Whatever the score, the rate; of queries with so many features."""
        return cls(np.array([LEAST_SLOPE, *np.zeros(features), logit(rate)]))

    def relevance(self, scores: Floats, queries: Floats) -> Floats:
        """Probabilities, queries × candidates. `scores` alike; `queries`: queries × features."""
        slope = max(float(self.weights[0]), LEAST_SLOPE)
        level = queries @ self.weights[1:-1] + self.weights[-1]
        found: Floats = expit(slope * scores + level[:, None]).astype(np.float32)
        return found


@dataclass(frozen=True, eq=False, slots=True)
class Pairs:
    """Pairs of a query and a candidate, and whether they met."""

    scores: Floats
    queries: Floats
    """Pairs × features of the query."""
    met: Mask
    weights: Floats
    """How many pairs each one stands for."""
    hits: int
    """Queries that met anything."""

    @classmethod
    def none(cls, features: int) -> Self:
        """No pairs, of queries with so many features."""
        nothing = np.zeros(0, np.float32)
        return cls(nothing, np.zeros((0, features), np.float32), nothing > 0, nothing, 0)


def sample_pairs(
    scores: Floats,
    queries: Floats,
    met: Mask,
    candidates: Mask,
    stand_for: Floats,
    share: float,
    seed: int,
) -> Pairs:
    """Of queries × candidates all that met, and a share of the others, which stands for all.
    `stand_for`: how many queries each one stands for."""
    drawn = np.random.default_rng(seed).random(scores.shape, np.float32) < share
    rows, columns = np.nonzero(candidates & (met | drawn))
    target = met[rows, columns]
    weights = (stand_for[rows] * np.where(target, 1.0, 1 / share)).astype(np.float32)
    hits = int((met & candidates).any(axis=1).sum())
    return Pairs(scores[rows, columns], queries[rows], target, weights, hits)


def joined_pairs(parts: Sequence[Pairs], features: int) -> Pairs:
    """All together; `features`: of a query."""
    parts = [Pairs.none(features), *parts]
    return Pairs(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.queries for part in parts]),
        np.concatenate([part.met for part in parts]),
        np.concatenate([part.weights for part in parts]),
        sum(part.hits for part in parts),
    )


def fit_calibration(pairs: Pairs, rate: float) -> Calibration:
    """`rate`: the share of pairs that a prior expects to be met, as much as one interaction says.

    What one query meets comes together: beside the prior all pairs say no more than the queries
    that met anything, each once.
    """
    size, weight = pairs.queries.shape[1], pairs.weights.astype(np.float64)
    target, total = weight * pairs.met, float(weight.sum())
    if not total:
        return Calibration.flat(rate, size)
    share = min((target.sum() + 1) / (total + 1 / rate), MOST)
    plain = np.column_stack([pairs.scores, pairs.queries]).astype(np.float64)
    middle, scale = plain.mean(axis=0), plain.std(axis=0) + 1e-6
    table = np.column_stack([(plain - middle) / scale, np.ones(len(plain))])
    prior = np.array([scale[0], *np.zeros(size)])
    independent = pairs.hits / max(target.sum(), 1.0)

    def loss(weights: Weights) -> tuple[float, Weights]:
        z, off = table @ weights, (weights[:-1] - prior) / PRIOR
        value = independent * (weight @ np.logaddexp(0.0, z) - z @ target) + off @ off / 2
        gradient = independent * (table.T @ (weight * expit(z) - target))
        gradient[:-1] += off / PRIOR
        return float(value / total), gradient / total

    start = np.array([*prior, logit(share)])
    bounds = [(LEAST_SLOPE * scale[0], None), *[(None, None)] * (size + 1)]
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12}
    ).x
    slopes = np.round(found[:-1] / scale, DECIMALS)
    level = _level(plain @ slopes, weight, share)
    return Calibration(np.array([*slopes, np.round(level, DECIMALS)]))


def _level(logits: Weights, weight: Weights, share: float) -> float:
    """What to add to the logits of pairs so that a share of them is expected to be met."""

    def excess(level: float) -> float:
        return float(weight @ expit(logits + level)) / float(weight.sum()) - share

    low, high = logit(share) - logits.max() - MARGIN, logit(share) - logits.min() + MARGIN
    return float(brentq(excess, low, high))
