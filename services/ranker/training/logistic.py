"""Logistic regression on one number, and the losses it is judged by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ITERATIONS = 25
_CLOSE = 1e-10
_LONGEST_STEP = 2
_TINY = 1e-7


def sigmoid(z: Floats) -> Floats:
    """Probabilities of logits, which are cut at ±30."""
    p: Floats = 1 / (1 + np.exp(-np.clip(z, -30, 30)))
    return p


def logits(probabilities: Floats) -> Floats:
    """Log odds, finite for 0 and 1 too."""
    p = np.clip(probabilities, _TINY, 1 - _TINY)
    return np.log(p) - np.log1p(-p)


def log_losses(labels: Floats, probabilities: Floats) -> Floats:
    """Negative log likelihoods in nats, finite for 0 and 1 too. Labels may be probabilities."""
    p = np.clip(probabilities, _TINY, 1 - _TINY)
    return -(labels * np.log(p) + (1 - labels) * np.log1p(-p))


@dataclass(frozen=True, slots=True)
class Prior:
    """How firmly a scale of 1 and the level as it is are believed, as Fisher information: a row of
    probability p says p (1 − p) of the level."""

    scale: float = 0.0
    level: float = 0.0


def regression(z: Floats, labels: Floats, weights: Floats, prior: Prior | None = None) -> Floats:
    """Scale and shift [2] of z [n] that minimise the weighted log loss of the labels, by Newton's
    method; NaN where there are none, as with labels of one kind.

    The scale works around the mean logit, so that a doubtful scale doesn't move the level.
    """
    if not 0 < labels.sum() < len(labels):
        return np.full(2, np.nan)
    prior = prior or Prior()
    believed = np.diag([prior.scale, prior.level])
    told = weights * sigmoid(z) * sigmoid(-z)
    middle = float(np.average(z, weights=told))
    x = np.stack([z - middle, np.ones_like(z)], axis=1)
    start = np.array([1.0, middle])
    best = start.copy()
    for _ in range(ITERATIONS):
        p = sigmoid(x @ best)
        hessian = (x * (weights * p * (1 - p))[:, None]).T @ x + believed
        if not np.isfinite(hessian).all() or np.linalg.cond(hessian) > 1e12:
            return np.full(2, np.nan)
        gradient = x.T @ (weights * (labels - p)) - believed @ (best - start)
        step = np.linalg.solve(hessian, gradient)
        best = best + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        if np.abs(step).max() < _CLOSE:
            break
    return np.array([best[0], best[1] - best[0] * middle])
