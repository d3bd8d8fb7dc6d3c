"""The score of a candidate for a query: a few weights over taste, activity and recency.

The weights maximise the likelihood of what each query really met, as a softmax over all its
candidates, each query counting as one (listwise: Cao et al., "Learning to Rank", ICML 2007), with
an L2 penalty.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from services.candidate.sources.arrays import Floats, Mask

Weights = npt.NDArray[np.float64]
PENALTY = 0.03
SMOOTHING = 0.1
MOST_ITERATIONS = 60
DECIMALS = 4
"""Of a weight: more than its data can tell, and few enough to be the same on each run."""


@dataclass(frozen=True, eq=False, slots=True)
class Lists:
    """The queries of one validation window."""

    candidates: Mask
    """Queries × candidates: who may be ranked."""
    met: Floats
    """Queries × candidates: 1 where they interacted in the window."""
    offset: Floats
    """Candidates: what is known of their activity, with the fixed weight 1."""
    context: Floats
    """Candidates × features that get a weight."""
    taste: Sequence[Floats]
    """For each feature of taste, queries × candidates."""

    def some(self, rows: Mask, taste: Sequence[int]) -> "Lists":
        """Some queries and some features of taste."""
        chosen = [self.taste[place][rows] for place in taste]
        return Lists(self.candidates[rows], self.met[rows], self.offset, self.context, chosen)


def taste_features(scores: Floats, known: Mask, forms: int = 2) -> list[Floats]:
    """Up to two forms of a scorer's scores (queries × candidates), comparable over queries: in
    units of a query's deviation over the known candidates, and the logarithm relative to the
    query's mean. 0 for candidates that aren't known."""
    count = np.float32(max(int(known.sum()), 1))
    mean = scores[:, known].sum(axis=1, keepdims=True) / count
    centred = np.where(known, scores - mean, np.float32(0))
    spread = np.sqrt((centred * centred).sum(axis=1, keepdims=True) / count)
    linear = (centred / (spread + np.float32(1e-12))).astype(np.float32)
    if forms == 1:
        return [linear]
    positive = np.where(known, np.maximum(scores, 0), np.float32(0))
    level = positive.sum(axis=1, keepdims=True) / count + np.float32(1e-12)
    log = np.where(known, np.log(positive / level + np.float32(SMOOTHING)), np.float32(0))
    return [linear, log.astype(np.float32)]


@dataclass(frozen=True, eq=False, slots=True)
class Combination:
    """Fitted weights: context first, then taste; the context is standardised."""

    middle: Floats
    scale: Floats
    weights: Weights

    @classmethod
    def prior(cls, context: Floats, tastes: int) -> Self:
        """Where there is nothing to fit on: the square root of a candidate's count, and each taste
        as it is. `context`: candidates × features, the logarithm of the count first."""
        middle, scale = context.mean(axis=0), context.std(axis=0) + np.float32(1e-3)
        weights = np.zeros(context.shape[1] + tastes)
        weights[: min(context.shape[1], 1)] = scale[:1] / 2
        weights[context.shape[1] :] = 1.0
        return cls(middle, scale, weights)

    def tempered(self, strength: float) -> Self:
        """With the weights of taste multiplied by `strength`."""
        weights = self.weights.copy()
        weights[len(self.middle) :] *= strength
        return replace(self, weights=weights)

    def static(self, context: Floats) -> Floats:
        """The part of the score that doesn't depend on the query."""
        standard = (context - self.middle) / self.scale
        part: Floats = (standard @ self.weights[: len(self.middle)]).astype(np.float32)
        return part

    def scores(self, offset: Floats, context: Floats, taste: Sequence[Floats]) -> Floats:
        """Queries × candidates (1 × candidates without taste)."""
        total: Floats = np.asarray((offset + self.static(context))[None, :])
        for weight, feature in zip(self.weights[len(self.middle) :], taste, strict=True):
            total = total + np.float32(weight) * feature
        return total


def fit_combination(windows: Sequence[Lists]) -> Combination:
    """Fit the weights on the windows' queries."""
    table = np.concatenate([window.context[window.candidates.any(axis=0)] for window in windows])
    middle, scale = table.mean(axis=0), table.std(axis=0) + np.float32(1e-3)
    contexts = [((window.context - middle) / scale).astype(np.float64) for window in windows]
    count, tastes = len(middle), len(windows[0].taste)
    total = float(sum(len(window.met) for window in windows)) or 1.0

    def loss(weights: Weights) -> tuple[float, Weights]:
        value, gradient = 0.0, np.zeros_like(weights)
        for window, context in zip(windows, contexts, strict=True):
            # float64: the line search ends early, and by chance, on the rounding of float32
            z = np.where(window.candidates, window.offset + context @ weights[:count], -np.inf)
            for weight, feature in zip(weights[count:], window.taste, strict=True):
                z += weight * feature
            z -= z.max(axis=1, keepdims=True)
            met = window.met > 0
            share = np.exp(z)
            whole = share.sum(axis=1, keepdims=True)
            each = 1 / np.maximum(window.met.sum(axis=1, keepdims=True), 1)
            value += float(np.log(whole).sum() - (np.where(met, z, 0) * each).sum())
            share /= whole
            share -= window.met * each
            gradient[:count] += share.sum(axis=0) @ context
            for place, feature in enumerate(window.taste):
                gradient[count + place] += float(np.einsum("qc,qc->", share, feature))
        value, gradient = value / total, gradient / total
        return value + PENALTY * float(weights @ weights), gradient + 2 * PENALTY * weights

    start = np.zeros(count + tastes)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": MOST_ITERATIONS})
    return Combination(
        middle.astype(np.float32), scale.astype(np.float32), np.round(found.x, DECIMALS)
    )


def gains(scores: Floats, lists: Lists, count: int = 20) -> Floats:
    """NDCG at `count` of each query."""
    table = np.where(lists.candidates, scores, -np.inf)
    width = min(count, table.shape[1])
    chosen = np.argpartition(-table, width - 1, axis=1)[:, :width]
    order = np.argsort(-np.take_along_axis(table, chosen, axis=1), axis=1, kind="stable")
    chosen = np.take_along_axis(chosen, order, axis=1)
    hits = np.take_along_axis(lists.met, chosen, axis=1) > 0
    discount = 1 / np.log2(np.arange(2, width + 2))
    many = np.minimum((lists.met > 0).sum(axis=1), width)
    best = np.concatenate([[1.0], np.cumsum(discount)[:width]])[many]
    found: Floats = ((hits @ discount) / best).astype(np.float32)
    return found
