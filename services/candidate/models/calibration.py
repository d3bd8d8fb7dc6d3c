"""From a score to the probability that the pair interacts within the horizon.

A logistic regression (Platt, "Probabilistic Outputs for Support Vector Machines", 1999) on the
combined score and what is known of the query, over all pairs of the last validation window. Its
weights have a prior, which stands alone where nothing could be held out: the score as it is, at the
rate with which known pairs are met.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from services.candidate.models.combination import DECIMALS, Weights
from services.candidate.sources.arrays import Floats, Mask

PRIOR = 1.0
"""Deviation of the weights of standardised features about their prior."""
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


def fit_calibration(
    scores: Floats, queries: Floats, met: Floats, candidates: Mask, rate: float
) -> Calibration:
    """Fit on the pairs that are candidates. `rate`: the share of pairs that a prior expects to be
    met, as much as one pair says."""
    rows, columns = np.nonzero(candidates)
    target = (met[rows, columns] > 0).astype(np.float64)
    size = queries.shape[1]
    if not len(target):
        return Calibration(np.array([1.0, *np.zeros(size), _logit(rate)]))
    table = np.column_stack([scores[rows, columns], queries[rows]]).astype(np.float64)
    middle, scale = table.mean(axis=0), table.std(axis=0) + 1e-6
    table = np.column_stack([(table - middle) / scale, np.ones(len(table))])
    prior = np.array([scale[0], *np.zeros(size), _logit((target.sum() + rate) / (len(table) + 1))])

    def loss(weights: Weights) -> tuple[float, Weights]:
        z, off = table @ weights, (weights - prior) / PRIOR
        value = np.logaddexp(0.0, z).sum() - z @ target + off @ off / 2
        gradient = table.T @ (expit(z) - target) + off / PRIOR
        return float(value / len(target)), gradient / len(target)

    found = minimize(loss, prior, jac=True, method="L-BFGS-B", options={"ftol": 1e-12}).x
    slopes = found[:-1] / scale
    return Calibration(np.round([*slopes, found[-1] - slopes @ middle], DECIMALS))


def _logit(rate: float) -> float:
    rate = min(max(rate, 1e-9), 1 - 1e-9)
    return float(np.log(rate / (1 - rate)))
