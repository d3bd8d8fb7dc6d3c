"""How good predictions are: AUC, log loss, normalised entropy, calibration; with intervals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Metric: TypeAlias = Callable[[Floats, Floats, Floats], float]
RESAMPLES = 200
_TINY = 1e-7


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def auc(scores: Floats, labels: Floats, weights: Floats) -> float:
    """Chance that a positive scores above a negative, ties half; NaN without both."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    positives, negatives = (weights * labels)[order], (weights * (1 - labels))[order]
    _, group = np.unique(ordered, return_inverse=True)
    in_group = np.bincount(group, negatives)
    below = np.cumsum(in_group) - in_group
    wins = float((positives * (below + in_group / 2)[group]).sum())
    pairs = float(positives.sum() * negatives.sum())
    return wins / pairs if pairs > 0 else float("nan")


def log_loss(scores: Floats, labels: Floats, weights: Floats) -> float:
    """Mean negative log likelihood in nats."""
    p = np.clip(scores, _TINY, 1 - _TINY)
    losses = -(labels * np.log(p) + (1 - labels) * np.log1p(-p))
    return float(np.average(losses, weights=weights))


def normalised_entropy(scores: Floats, labels: Floats, weights: Floats) -> float:
    """Log loss over that of the constant base rate (He et al., 2014); below 1 is better."""
    base = float(np.average(labels, weights=weights))
    if not 0 < base < 1:
        return float("nan")
    entropy = -(base * np.log(base) + (1 - base) * np.log1p(-base))
    return log_loss(scores, labels, weights) / float(entropy)


def calibration(scores: Floats, labels: Floats, weights: Floats) -> float:
    """Sum of predictions over sum of labels; 1 is right."""
    positives = float((weights * labels).sum())
    return float((weights * scores).sum()) / positives if positives > 0 else float("nan")


METRICS: dict[str, Metric] = {
    "auc": auc,
    "log_loss": log_loss,
    "normalised_entropy": normalised_entropy,
    "calibration": calibration,
}


def evaluate(
    scores: Floats, labels: Floats, weights: Floats, users: NDArray[np.int64], seed: int
) -> dict[str, Estimate]:
    """All metrics with percentile intervals of a bootstrap over users [n] (0 … U − 1)."""
    random = np.random.default_rng(seed)
    count = int(users.max()) + 1
    draws = [
        np.bincount(random.integers(count, size=count), minlength=count) for _ in range(RESAMPLES)
    ]
    found = {}
    for name, metric in METRICS.items():
        resampled = [metric(scores, labels, weights * draw[users]) for draw in draws]
        finite = np.array([value for value in resampled if np.isfinite(value)])
        low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) else (np.nan, np.nan)
        found[name] = Estimate(metric(scores, labels, weights), float(low), float(high))
    return found
