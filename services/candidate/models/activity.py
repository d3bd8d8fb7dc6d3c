"""How active each user (or how wanted each item) will be in the next horizon, taste aside.

A log-linear model of a few features (`context`), fitted on many moments of the past: at each, whose
interactions followed within the horizon. A few features and many moments, since what decides, who
is in the midst of a session, is seen at few of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from services.candidate.models.combination import DECIMALS, Weights
from services.candidate.models.context import Clock, context
from services.candidate.models.interactions import Interactions
from services.candidate.models.windows import LEAST_HISTORY
from services.candidate.sources.arrays import Floats, Mask

MOST_MOMENTS = 120
MOST_ROWS = 2_000_000
"""Rows of features, over all moments."""
STRIDE = 1 / 7
"""Between two moments, in horizons."""
PENALTIES = (0.1, 0.03, 0.01, 0.003, 0.001)
"""Weights of the squares of the weights, among which the fit chooses."""


@dataclass(frozen=True, eq=False, slots=True)
class Activity:
    """Weights of standardised features."""

    middle: Floats
    scale: Floats
    weights: Weights

    def scores(self, features: Floats) -> Floats:
        """Logarithm of the expected share of interactions, up to a constant."""
        found: Floats = ((features - self.middle) / self.scale @ self.weights).astype(np.float32)
        return found


Moments = Sequence[tuple[Floats, Floats]]


def fit_activity(moments: Moments, penalty: float) -> Activity:
    """Fit on what `past_moments` gives."""
    table = np.concatenate([features for features, _ in moments])
    middle, scale = table.mean(axis=0), table.std(axis=0) + np.float32(1e-3)
    ready = [((features - middle) / scale, met) for features, met in moments]
    total = sum(float(met.sum()) for _, met in moments) or 1.0

    def loss(weights: Weights) -> tuple[float, Weights]:
        value, gradient = 0.0, np.zeros_like(weights)
        for features, met in ready:
            z = features @ weights
            z -= z.max(initial=-np.inf)
            share = np.exp(z)
            whole, many = share.sum(), met.sum()
            value += float(many * np.log(whole) - z @ met)
            gradient += features.T @ (share * (many / whole) - met)
        square = penalty * float(weights @ weights)
        return value / total + square, gradient / total + 2 * penalty * weights

    found = minimize(loss, np.zeros(len(middle)), jac=True, method="L-BFGS-B")
    return Activity(middle, scale, np.round(found.x, DECIMALS))


def past_moments(known: Interactions, clock: Clock, count: int) -> Moments:
    """Of the users of `known` (transposed: of the items), at up to `count` moments up to the clock:
    the features of those known, and their interactions in the horizon after it with items known.

    Each item counts as one, shared among the users that it met: lists are judged by the mean over
    queries, so that one who meets hundreds says no more than one who meets two.
    """
    times, size = known.times, len(known.user_ids)
    if times is None:
        raise ValueError("activity needs timestamps")
    most = max(min(count, MOST_ROWS // max(size, 1)), 1)
    found = []
    for back in range(most):
        moment = clock.now - clock.horizon * (1 + back * STRIDE)
        before = times < moment
        if back and before.mean() < LEAST_HISTORY:
            break
        after = ~before & (times < moment + clock.horizon) & (known.weights > 0)
        rows = known.users[before]
        there = np.bincount(rows, minlength=size) > 0
        met = _shares(known, before, after, size)[there]
        features = context(rows, size, times[before], Clock(moment, clock.horizon))
        found.append((features[there], met))
    return found


def _shares(known: Interactions, before: Mask, after: Mask, size: int) -> Floats:
    queries = len(known.item_ids)
    rows = np.flatnonzero(after)
    rows = rows[(np.bincount(known.items[before], minlength=queries) > 0)[known.items[rows]]]
    many = np.bincount(known.items[rows], minlength=queries)
    share = 1 / many[known.items[rows]]
    found: Floats = np.bincount(known.users[rows], share, size).astype(np.float32)
    return found
