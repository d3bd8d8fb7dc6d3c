"""Calibration of logits on rows the model has not learned from (Platt, 1999)."""

import numpy as np
from numpy.typing import NDArray

from services.ranker.training.log import MASKED
from services.ranker.training.logistic import Prior, regression

LEAST_POSITIVES = 20
"""With fewer positives, a head keeps its logits as they are."""
SCALE_PRIOR = 30.0
"""Information that speaks for a scale of 1."""
BELIEVED = 0.25
"""What a row that the model learned from says of the level, beside one that it didn't: levels move
with time, and what was learned is older."""
LEAST_SCALE = 0.05
"""Logits that say nothing, or the opposite, keep their order at least."""


def fit_calibration(
    logits: NDArray[np.float64],
    labels: NDArray[np.int8],
    weights: NDArray[np.float64],
    learned: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale and shift [heads] that minimise the weighted log loss of scale · logit + shift.

    `learned` [heads]: the `information` of the rows that the model learned from. Their level counts
    beside that of these rows, which are fewer and of a week of their own; how far apart scores may
    be, only rows tell from which nothing was learned.
    """
    scale = np.ones(logits.shape[1], np.float32)
    shift = np.zeros(logits.shape[1], np.float32)
    for head in range(logits.shape[1]):
        known = labels[:, head] != MASKED
        y = labels[known, head].astype(np.float64)
        if min(y.sum(), (1 - y).sum()) >= LEAST_POSITIVES:
            prior = Prior(SCALE_PRIOR, BELIEVED * float(learned[head]))
            found = regression(logits[known, head], y, weights[known], prior)
            scale[head], shift[head] = max(found[0], LEAST_SCALE), found[1]
    return scale, shift


def information(labels: NDArray[np.int8], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """What rows say of each head's level [heads]: n p (1 − p) of n weighted rows at the rate p."""
    known = (weights[:, None] * (labels != MASKED)).sum(0)
    positives = (weights[:, None] * (labels == 1)).sum(0)
    found: NDArray[np.float64] = positives * (1 - positives / np.maximum(known, 1e-9))
    return found
