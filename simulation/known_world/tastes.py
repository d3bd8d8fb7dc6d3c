"""Latent tastes of users and items, fitted on real ratings."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.known_world.parameters import Parameters
from simulation.movielens import MovieLens

DECIMALS = 6
"""Factors are rounded, so that the last bits of the linear algebra change nothing that follows."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tastes:
    """A rating is `mean + user_bias + users @ items.T`, where the items' last column is their bias
    and the users' last column is 1."""

    mean: float
    user_bias: Array
    """[users]"""
    users: Array
    """[users, rank + 1]"""
    items: Array
    """[items, rank + 1]"""
    center: float
    spread: float
    """Mean and standard deviation of `users @ items.T` over all pairs."""
    limit: float
    """Scores are cut there."""
    popularity: Array
    """[items]: log(1 + ratings)."""

    def scores(self, users: Array) -> Array:
        """Taste scores [users, items] in standard deviations, of factors [users, …]."""
        raw = (users @ self.items.T - self.center) / self.spread
        found: Array = np.clip(raw.round(DECIMALS), -self.limit, self.limit)
        return found


def fit(data: MovieLens, parameters: Parameters) -> Tastes:
    """Biases first, then factors of what they leave, by alternating least squares.

    The ridge penalty grows with the number of ratings (Zhou et al., 2008, "Large-scale parallel
    collaborative filtering for the Netflix prize").
    """
    ratings = data.ratings
    stars = ratings.stars.astype(np.float64)
    mean, prior = float(stars.mean()), parameters.bias_prior
    item_bias = _bias(stars - mean, ratings.item, len(data.items), prior)
    user_bias = _bias(stars - mean - item_bias[ratings.item], ratings.user, len(data.users), prior)
    left = stars - mean - item_bias[ratings.item] - user_bias[ratings.user]
    random = np.random.default_rng(0)
    items = random.normal(0, 0.1, (len(data.items), parameters.taste_rank))
    users = np.zeros((len(data.users), parameters.taste_rank))
    by_user = _Groups(ratings.user, ratings.item, left, len(users))
    by_item = _Groups(ratings.item, ratings.user, left, len(items))
    for _ in range(parameters.taste_sweeps):
        users = by_user.solve(items, parameters.taste_shrinkage)
        items = by_item.solve(users, parameters.taste_shrinkage)
    all_users = np.column_stack((users, np.ones(len(users)))).round(DECIMALS)
    all_items = np.column_stack((items, item_bias)).round(DECIMALS)
    raw = all_users @ all_items.T
    counts = np.bincount(ratings.item, minlength=len(items))
    center, spread = round(float(raw.mean()), DECIMALS), round(float(raw.std()), DECIMALS)
    return Tastes(
        mean,
        user_bias,
        all_users,
        all_items,
        center,
        spread,
        parameters.taste_limit,
        np.log1p(counts),
    )


def _bias(left: Array, row: NDArray[np.int32], count: int, prior: float) -> Array:
    total = np.bincount(row, left, minlength=count)
    bias: Array = total / (np.bincount(row, minlength=count) + prior)
    return bias


class _Groups:
    """Ratings put together by one side, to be solved for given the other."""

    def __init__(
        self, row: NDArray[np.int32], other: NDArray[np.int32], left: Array, count: int
    ) -> None:
        order = np.argsort(row, kind="stable")
        ends = np.cumsum(np.bincount(row, minlength=count))[:-1]
        self._others = np.split(other[order], ends)
        self._left = np.split(left[order], ends)

    def solve(self, factors: Array, penalty: float) -> Array:
        """Factors of this side [count, rank]; zeros for who has no ratings."""
        rank = factors.shape[1]
        solved = np.zeros((len(self._others), rank))
        for row, (other, left) in enumerate(zip(self._others, self._left, strict=True)):
            if len(other):
                x = factors[other]
                square = x.T @ x + penalty * len(other) * np.eye(rank)
                solved[row] = np.linalg.solve(square, x.T @ left)
        return solved
