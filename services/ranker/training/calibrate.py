"""Calibration of logits on rows the model has not learned from (Platt, 1999)."""

import numpy as np
from numpy.typing import NDArray

from services.ranker.training.log import MASKED

LEAST_POSITIVES = 20
"""With fewer positives, a head keeps its logits as they are."""
RIDGE = 1.0
"""Pull of scale towards 1 and shift towards 0, in rows."""
ITERATIONS = 25


def fit_calibration(
    logits: NDArray[np.float64], labels: NDArray[np.int8], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale and shift [heads] that minimise the weighted log loss of scale · logit + shift."""
    scale = np.ones(logits.shape[1], np.float32)
    shift = np.zeros(logits.shape[1], np.float32)
    for head in range(logits.shape[1]):
        known = labels[:, head] != MASKED
        y = labels[known, head].astype(np.float64)
        if min(y.sum(), (1 - y).sum()) >= LEAST_POSITIVES:
            scale[head], shift[head] = _newton(logits[known, head], y, weights[known])
    return scale, shift


def _newton(
    z: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, float]:
    x = np.stack([z, np.ones_like(z)], axis=1)
    prior = np.array([1.0, 0.0])
    theta = prior.copy()
    for _ in range(ITERATIONS):
        p = 1 / (1 + np.exp(-np.clip(x @ theta, -30, 30)))
        gradient = x.T @ (weights * (p - y)) + RIDGE * (theta - prior)
        hessian = (x * (weights * p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(2)
        theta = theta - np.linalg.solve(hessian, gradient)
    return max(float(theta[0]), 0.05), float(theta[1])
