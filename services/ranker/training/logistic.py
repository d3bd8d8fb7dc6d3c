"""Logistic regression on one number, and the losses it is judged by."""

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


def regression(z: Floats, labels: Floats, weights: Floats, ridge: float = 0.0) -> Floats:
    """Scale and shift [2] of z [n] that minimise the weighted log loss of the labels, by Newton's
    method; NaN where there are none, as with labels of one kind.

    `ridge`: pull of the scale towards 1 and of the shift towards 0, as Fisher information:
    a row of probability p weighs p (1 − p).
    """
    if not 0 < labels.sum() < len(labels):
        return np.full(2, np.nan)
    x = np.stack([z, np.ones_like(z)], axis=1)
    prior = np.array([1.0, 0.0])
    best = prior.copy()
    for _ in range(ITERATIONS):
        p = sigmoid(x @ best)
        hessian = (x * (weights * p * (1 - p))[:, None]).T @ x + ridge * np.eye(2)
        if not np.isfinite(hessian).all() or np.linalg.cond(hessian) > 1e12:
            return np.full(2, np.nan)
        gradient = x.T @ (weights * (labels - p)) - ridge * (best - prior)
        step = np.linalg.solve(hessian, gradient)
        best = best + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        if np.abs(step).max() < _CLOSE:
            break
    return best
