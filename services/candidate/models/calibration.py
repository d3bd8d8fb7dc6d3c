"""From a score to the probability that the pair interacts within the horizon.

A logistic regression (Platt, "Probabilistic Outputs for Support Vector Machines", 1999) on the
combined score and what is known of the query, over all pairs of the last validation window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from services.candidate.models.combination import DECIMALS, Weights
from services.candidate.sources.arrays import Floats, Mask

PENALTY = 1e-6
LEAST_SLOPE = 1e-3
"""Relevance must not change the order of the scores."""


@dataclass(frozen=True, eq=False, slots=True)
class Calibration:
    """Weights: of the score, of the query's features, and the intercept."""

    weights: Weights

    def relevance(self, scores: Floats, queries: Floats) -> Floats:
        """Probabilities, queries × candidates. `scores` alike; `queries`: queries × features."""
        slope = max(float(self.weights[0]), LEAST_SLOPE)
        level = queries @ self.weights[1:-1] + self.weights[-1]
        found: Floats = expit(slope * scores + level[:, None]).astype(np.float32)
        return found


def fit_calibration(scores: Floats, queries: Floats, met: Floats, candidates: Mask) -> Calibration:
    """Fit on the pairs that are candidates."""
    rows, columns = np.nonzero(candidates)
    target = (met[rows, columns] > 0).astype(np.float64)
    ones = np.ones(len(rows))
    table = np.column_stack([scores[rows, columns], queries[rows], ones]).astype(np.float64)
    start = np.zeros(table.shape[1])
    rate = np.clip(target.mean() if len(target) else 0.0, 1e-9, 1 - 1e-9)
    start[-1] = np.log(rate / (1 - rate))
    scale = np.maximum(np.abs(table).max(axis=0, initial=1e-9), 1e-9)
    scaled = table / scale

    def loss(weights: Weights) -> tuple[float, Weights]:
        z = scaled @ weights
        value = (np.logaddexp(0.0, z) - target * z).mean()
        gradient = scaled.T @ (expit(z) - target) / len(target)
        return float(value + PENALTY * weights @ weights), gradient + 2 * PENALTY * weights

    if not len(target):
        return Calibration(start)
    found = minimize(loss, start * scale, jac=True, method="L-BFGS-B", options={"ftol": 1e-12})
    return Calibration(np.round(found.x / scale, DECIMALS))


def reliability(
    relevance: Floats, met: Floats, groups: Sequence[int], count: int
) -> list[tuple[float, float]]:
    """Mean predicted and observed share of the pairs of each group."""
    places = np.asarray(groups)
    pairs = np.maximum(np.bincount(places, minlength=count), 1)
    predicted = np.bincount(places, relevance, count) / pairs
    observed = np.bincount(places, met, count) / pairs
    return [(float(p), float(o)) for p, o in zip(predicted, observed, strict=True)]
