"""Calibration of logits on rows the model has not learned from (Platt, 1999)."""

import numpy as np
from numpy.typing import NDArray

from services.ranker.training.log import MASKED
from services.ranker.training.logistic import regression

LEAST_POSITIVES = 20
"""With fewer positives, a head keeps its logits as they are."""
RIDGE = 100.0
"""Pull of scale towards 1 and of shift towards 0: a few hundred labels say less of the level than
the training did, which saw many times as many."""
LEAST_SCALE = 0.05
"""Logits that say nothing, or the opposite, keep their order at least."""


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
            found = regression(logits[known, head], y, weights[known], RIDGE)
            scale[head], shift[head] = max(found[0], LEAST_SCALE), found[1]
    return scale, shift
