"""Interactions of users with items, by string ids, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from services.candidate.sources.arrays import Floats, Mask, Matrix, Rows, sparse

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who interacted with what, and when. Columns of one length; rows point into the id lists."""

    user_ids: Sequence[str]
    item_ids: Sequence[str]
    users: Rows
    items: Rows
    times: Seconds | None
    """Seconds since 1970; None: not known."""
    weights: Floats

    @classmethod
    def of(
        cls,
        users: Sequence[str],
        items: Sequence[str],
        times: Seconds | None = None,
        weights: Floats | None = None,
    ) -> Self:
        """From columns of ids; the id lists are those that occur, sorted."""
        user_ids, user_rows = np.unique(np.asarray(users, dtype=object), return_inverse=True)
        item_ids, item_rows = np.unique(np.asarray(items, dtype=object), return_inverse=True)
        if weights is None:
            weights = np.ones(len(user_rows), np.float32)
        return cls(
            list(user_ids),
            list(item_ids),
            user_rows.astype(np.int64),
            item_rows.astype(np.int64),
            times,
            weights.astype(np.float32),
        )

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def matrix(self) -> Matrix:
        """Users × items, 1 where a pair's weights add up to more than 0."""
        shape = (len(self.user_ids), len(self.item_ids))
        summed = sparse(self.weights, self.users, self.items, shape)
        summed.data = (summed.data > 0).astype(np.float32)
        summed.eliminate_zeros()
        summed.sort_indices()
        return summed

    @cached_property
    def seen(self) -> Matrix:
        """Users × items, 1 for every pair that interacted, whatever the weight."""
        shape = (len(self.user_ids), len(self.item_ids))
        table = sparse(np.ones(len(self), np.float32), self.users, self.items, shape)
        table.data[:] = 1.0
        return table

    def take(self, rows: Mask | Rows) -> Self:
        """Some of the interactions; the id lists stay."""
        times = None if self.times is None else self.times[rows]
        return type(self)(
            self.user_ids,
            self.item_ids,
            self.users[rows],
            self.items[rows],
            times,
            self.weights[rows],
        )

    @cached_property
    def transposed(self) -> "Interactions":
        """With users and items exchanged; its `transposed` is this again."""
        other = Interactions(
            self.item_ids, self.user_ids, self.items, self.users, self.times, self.weights
        )
        other.__dict__["transposed"] = self
        return other

    @cached_property
    def decompositions(self) -> "dict[tuple[int, float], Decomposition]":
        """Those of the matrix that were made, by seed and smoothing."""
        return {}


@dataclass(frozen=True, eq=False, slots=True)
class Decomposition:
    """The first singular vectors of a matrix whose degrees are discounted, largest value first."""

    left: Floats
    """Rows × kept."""
    values: Floats
    right: Floats
    """Columns × kept."""
    rank: int
    """How many were asked for; those of value 0 are not kept."""
