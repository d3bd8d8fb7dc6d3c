"""How good predictions are, as functions of how often each user counts.

A metric prepares rows once and answers a function of the users' counts [U]: all 1 for the value
itself, numbers drawn for a bootstrap over users. Metrics of the same users under the same draws are
paired. Rows weigh as much as the inverse of the probability with which they were logged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.ranker.training.logistic import Floats, log_losses, logits, regression, sigmoid

Counted: TypeAlias = Callable[[Floats], float]
BINS = 15
_TINY = 1e-7


@dataclass(frozen=True, slots=True)
class Rows:
    """Predictions of one head with what happened, all of the same length n."""

    scores: Floats
    """Probabilities."""
    labels: Floats
    """0 or 1."""
    weights: Floats
    users: NDArray[np.int64]
    """0 … user_count − 1."""
    user_count: int

    def per_user(self, values: Floats) -> Floats:
        """Sums of row values over each user's rows [U]."""
        sums: Floats = np.bincount(self.users, values, self.user_count).astype(np.float64)
        return sums

    @property
    def logits(self) -> Floats:
        """Log odds of the scores."""
        return logits(self.scores)

    @property
    def losses(self) -> Floats:
        """Negative log likelihoods in nats."""
        return log_losses(self.labels, self.scores)


def auc(rows: Rows) -> Counted:
    """Chance that a positive scores above a negative, ties half; NaN without both."""
    order = np.argsort(rows.scores, kind="stable")
    _, group = np.unique(rows.scores[order], return_inverse=True)
    users, labels, weights = rows.users[order], rows.labels[order], rows.weights[order]
    positives, negatives = weights * labels, weights * (1 - labels)

    def counted(counts: Floats) -> float:
        times = counts[users]
        in_group = np.bincount(group, negatives * times)
        below = np.cumsum(in_group) - in_group
        won = np.bincount(group, positives * times)
        return _ratio((won * (below + in_group / 2)).sum(), won.sum() * in_group.sum())

    return counted


def log_loss(rows: Rows) -> Counted:
    """Mean negative log likelihood in nats."""
    losses, weights = rows.per_user(rows.weights * rows.losses), rows.per_user(rows.weights)
    return lambda counts: _ratio(counts @ losses, counts @ weights)


def normalised_entropy(rows: Rows) -> Counted:
    """Log loss over that of the constant base rate (He et al., 2014); below 1 is better."""
    loss = log_loss(rows)
    hits, weights = rows.per_user(rows.weights * rows.labels), rows.per_user(rows.weights)

    def counted(counts: Floats) -> float:
        base = _ratio(counts @ hits, counts @ weights)
        if not 0 < base < 1:
            return float("nan")
        entropy = -(base * np.log(base) + (1 - base) * np.log1p(-base))
        return loss(counts) / float(entropy)

    return counted


def calibration(rows: Rows) -> Counted:
    """Sum of predictions over sum of labels; 1 is right."""
    predicted = rows.per_user(rows.weights * rows.scores)
    observed = rows.per_user(rows.weights * rows.labels)
    return lambda counts: _ratio(counts @ predicted, counts @ observed)


def slope(rows: Rows) -> Counted:
    """Slope of a logistic regression of the labels on the logits (Cox, 1958): 1 is right, below 1
    the scores are too far apart. Drawn counts move it by one Newton step."""
    z = rows.logits
    best = regression(z, rows.labels, rows.weights)
    p = sigmoid(best[0] * z + best[1])
    errors = rows.weights * (rows.labels - p)
    spread = rows.weights * p * (1 - p)
    gradients = np.stack([rows.per_user(errors * each) for each in (z, 1.0)], axis=1)  # [U, 2]
    squares = (z * z, z, 1.0)
    hessians = np.stack([rows.per_user(spread * each) for each in squares], axis=1)  # [U, 3]

    def counted(counts: Floats) -> float:
        along, across, flat = counts @ hessians
        hessian = np.array([[along, across], [across, flat]])
        if not abs(along * flat - across**2) > _TINY * along * flat:
            return float("nan")
        return float(best[0] + np.linalg.solve(hessian, counts @ gradients)[0])

    return counted


def squared_calibration_error(rows: Rows) -> Counted:
    """Mean squared difference of predicted and observed rates over 15 bins of equal weight, less
    what chance alone adds (Kumar et al., 2019, arXiv:1909.10155), so it may be below 0. Chance is
    judged by the spread over users, whose rows hang together."""
    bins = _bins(rows)
    cells = rows.users * BINS + bins

    def per_cell(values: Floats) -> Floats:
        sums = np.bincount(cells, values, rows.user_count * BINS).astype(np.float64)
        return sums.reshape(-1, BINS)

    errors = per_cell(rows.weights * (rows.labels - rows.scores))  # [U, bins]
    weights = per_cell(rows.weights)
    present = (weights > 0).astype(np.float64)

    def counted(counts: Floats) -> float:
        total, users = counts @ weights, counts @ present
        enough = users >= 2
        if not enough.any():
            return float("nan")
        off = (counts @ errors)[enough] / total[enough]
        rest = errors[:, enough] - weights[:, enough] * off  # [U, bins]
        chance = (counts @ rest**2) / total[enough] ** 2 * users[enough] / (users[enough] - 1)
        return float(np.average(off**2 - chance, weights=total[enough]))

    return counted


def ndcg(rows: Rows) -> Counted:
    """Mean over users, who did it at least once and not always, of the NDCG of their rows by score.

    A row stands for as many as its weight says: a positive's place is 1 + the weights of the rows
    above it + half of those tied with it, its gain is its weight. Places are estimates where the
    log left rows out, and the discount bends: NDCG is then too high, by .03 at a quarter of 20 rows
    a user. Compare models on the same rows, not logs.
    """
    order = np.lexsort((-rows.scores, rows.users))
    places = 1 + _above(rows.users[order], rows.scores[order], rows.weights[order])
    gains = (rows.weights * rows.labels)[order]
    found = np.bincount(rows.users[order], gains / np.log2(1 + places), rows.user_count)
    order = np.lexsort((-rows.labels, rows.users))
    weights = rows.weights[order]
    before = np.cumsum(weights) - weights
    places = 1 + before - _first_of(rows.users[order], before)
    gains = weights * rows.labels[order]
    best = np.bincount(rows.users[order], gains / np.log2(1 + places), rows.user_count)
    mixed = (rows.per_user(rows.labels) > 0) & (rows.per_user(1 - rows.labels) > 0)
    shares = np.where(mixed, found / np.where(mixed, best, 1), 0.0)
    judged = mixed.astype(np.float64)
    return lambda counts: _ratio(counts @ shares, counts @ judged)


def _above(users: NDArray[np.int64], scores: Floats, weights: Floats) -> Floats:
    """For rows in order of user and falling score: the weight above each within its user; of the
    others that are tied with it, half."""
    fresh = np.ones(len(users), bool)
    fresh[1:] = (users[1:] != users[:-1]) | (scores[1:] != scores[:-1])
    group = np.cumsum(fresh) - 1
    tied = np.bincount(group, weights)
    before = np.cumsum(tied) - tied
    within = before[group] - _first_of(users, before[group])
    halves: Floats = within + (tied[group] - weights) / 2
    return halves


def _first_of(users: NDArray[np.int64], values: Floats) -> Floats:
    """The value of each user's first row, for all of the user's rows; users stand in order."""
    first: Floats = values[np.searchsorted(users, users)]
    return first


def _bins(rows: Rows) -> NDArray[np.int64]:
    """Bins of equal weight by score; equal scores stand in one bin."""
    order = np.argsort(rows.scores, kind="stable")
    total = np.cumsum(rows.weights[order])
    bins = np.empty(len(order), np.int64)
    middles = (total - rows.weights[order] / 2) / total[-1]
    bins[order] = np.minimum((middles * BINS).astype(np.int64), BINS - 1)
    _, inverse = np.unique(rows.scores, return_inverse=True)
    lowest = np.full(inverse.max() + 1, BINS)
    np.minimum.at(lowest, inverse, bins)
    return lowest[inverse]


def _ratio(above: Any, below: Any) -> float:
    return float(above / below) if below > 0 else float("nan")
