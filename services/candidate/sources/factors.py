"""Collaborative filtering: factors of users and items from their interactions.

Alternating least squares for implicit feedback (Hu, Koren and Volinsky, "Collaborative Filtering
for Implicit Feedback Datasets", ICDM 2008), as the library `implicit` computes it.
"""

from dataclasses import dataclass

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from scipy.special import expit
from threadpoolctl import threadpool_limits

from services.candidate.sources.arrays import Floats, Mask, Matrix

SLOPE = 6.0
MIDDLE = 0.5


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to fit."""

    factors: int = 32
    """Length of a vector."""
    regularization: float = 0.1
    """Weight of the squared length of the vectors in the loss."""
    confidence: float = 2.0
    """How much one unit of weight adds to the confidence 1 of an observed pair."""
    iterations: int = 15
    """Rounds of alternating solves."""
    seed: int = 0
    """Seed of the start values; the same seed and data give the same factors."""
    threads: int = 0
    """Threads to fit with; 0: all cores. It doesn't change the result."""


@dataclass(frozen=True, eq=False, slots=True)
class Factors:
    """Fitted vectors; user · item is the predicted preference, near 0 for no and near 1 for yes."""

    users: Floats
    """Users × factors."""
    items: Floats
    """Items × factors."""
    warm_users: Mask
    """Users who like at least one item; the others' vectors say nothing."""
    warm_items: Mask
    """Items that at least one user likes."""


def fit_factors(weights: Matrix, options: FitOptions | None = None) -> Factors:
    """Fit vectors to summed interaction weights (users × items, see Catalogue.weights).

    A pair with a positive weight w is preferred with confidence 1 + c·w; one with w ≤ 0 is not
    preferred, with confidence 1 + c·|w|; an unseen pair is not preferred, with confidence 1.
    """
    options = options or FitOptions()
    likes = weights > 0
    warm_users = np.asarray(likes.sum(axis=1)).ravel() > 0
    warm_items = np.asarray(likes.sum(axis=0)).ravel() > 0
    users = np.zeros((weights.shape[0], options.factors), np.float32)
    items = np.zeros((weights.shape[1], options.factors), np.float32)
    if warm_users.any():
        users, items = _solve(weights, options)
    return Factors(users, items, warm_users, warm_items)


def relevance(preference: Floats) -> Floats:
    """Predicted interest in [0, 1] from a predicted preference: 1 / (1 + exp(−6 (p − 0.5))).

    Strictly increasing, so that it changes no order; 0 → 0.05, 0.5 → 0.5, 1 → 0.95. It is not
    calibrated: it compares, and is no probability.
    """
    mapped: Floats = expit(np.float32(SLOPE) * (preference - np.float32(MIDDLE)))
    return mapped


def _solve(weights: Matrix, options: FitOptions) -> tuple[Floats, Floats]:
    sign = np.where(weights.data > 0, 1.0, -1.0)
    confidence = sign * (1.0 + options.confidence * np.abs(weights.data))
    table = csr_matrix(
        (confidence.astype(np.float32), weights.indices, weights.indptr), shape=weights.shape
    )
    with threadpool_limits(1, "blas"):  # BLAS threads inside the solver's own only get in the way
        model = AlternatingLeastSquares(
            factors=options.factors,
            regularization=options.regularization,
            alpha=1.0,
            iterations=options.iterations,
            random_state=options.seed,
            num_threads=options.threads,
        )
        model.fit(table, show_progress=False)
    return np.asarray(model.user_factors), np.asarray(model.item_factors)
