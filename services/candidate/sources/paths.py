"""Ways from users over actors to items: what social sources propose, and because of whom."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from services.candidate.sources.arrays import NONE, Floats, Mask, Matrix, Rows, changes
from services.candidate.sources.source import Ranking

MOST_ACTORS = 32
"""How many actors an event can name."""
CLOSEST = np.float32(0.99)
"""Strengths are cut here, so that more actors always make a higher score."""


@dataclass(frozen=True, eq=False, slots=True)
class Paths:
    """Ways user → actor → item, as aligned arrays."""

    users: Rows
    """Positions in the chunk."""
    actors: Rows
    items: Rows
    strengths: Floats
    """In (0, 1]."""

    @classmethod
    def walk(cls, ties: Matrix, offers: Matrix) -> Self:
        """All ways over `ties` (users × actors) and `offers` (actors × items); their strength is
        the product of both values."""
        owners = np.repeat(np.arange(ties.shape[0]), np.diff(ties.indptr))
        lengths = np.diff(offers.indptr)[ties.indices]
        tie = np.repeat(np.arange(len(owners)), lengths)
        skipped = offers.indptr[ties.indices] - (np.cumsum(lengths) - lengths)
        offer = np.arange(len(tie)) + skipped[tie]
        return cls(
            users=owners[tie],
            actors=ties.indices[tie].astype(np.int64),
            items=offers.indices[offer].astype(np.int64),
            strengths=(ties.data[tie] * offers.data[offer]).astype(np.float32),
        )

    def without(self, *hidden: Matrix | None) -> Self:
        """Those that lead to no stored entry of the tables (users × items)."""
        tables = [table for table in hidden if table is not None]
        width = max([int(self.items.max(initial=0)) + 1, *(table.shape[1] for table in tables)])
        taken = np.concatenate([np.empty(0, np.int64), *(_keys(table, width) for table in tables)])
        return self._chosen(~np.isin(self.users * width + self.items, taken))

    def _chosen(self, kept: Mask | Rows) -> Self:
        return type(self)(
            self.users[kept], self.actors[kept], self.items[kept], self.strengths[kept]
        )

    def ranking(self, user_count: int, actor_count: int, count: int) -> Ranking:
        """The best `count` items of each user, with the actors of each, strongest first.

        The score is 1 − ∏ (1 − strength) over an item's paths ("noisy or", Pearl, "Probabilistic
        Reasoning in Intelligent Systems", 1988): it grows with each path and stays below 1. Equal
        scores come in item order.
        """
        order = np.lexsort((self.actors, -self.strengths, self.items, self.users))
        ways = self._chosen(order)
        first = np.flatnonzero(changes(ways.users, ways.items))
        lengths = np.diff(np.append(first, len(order)))
        doubts = np.log1p(-np.minimum(ways.strengths, CLOSEST))
        scores = -np.expm1(np.add.reduceat(doubts, first)) if len(first) else doubts
        users, items = ways.users[first], ways.items[first]
        best = np.lexsort((items, -scores, users))
        place = _places(users[best])
        kept = best[place < count]
        table = np.full((user_count, min(count, int(place.max(initial=-1)) + 1)), NONE, np.int64)
        values = np.full(table.shape, -np.inf, np.float32)
        cells = users[kept], place[place < count]
        table[cells], values[cells] = items[kept], scores[kept]
        named = np.minimum(lengths[kept], MOST_ACTORS)
        chosen = np.repeat(first[kept] - (np.cumsum(named) - named), named) + np.arange(named.sum())
        starts = np.zeros(table.size + 1, np.int64)
        starts[1 + np.ravel_multi_index(cells, table.shape)] = named
        actors = Matrix(
            (ways.strengths[chosen], ways.actors[chosen], np.cumsum(starts)),
            shape=(table.size, actor_count),
        )
        return Ranking(table, values, actors)


def _keys(table: Matrix, width: int) -> Rows:
    owners = np.repeat(np.arange(table.shape[0], dtype=np.int64), np.diff(table.indptr))
    keys: Rows = owners * width + table.indices
    return keys


def _places(owners: Rows) -> Rows:
    """Position of each entry among those of its owner; owners are sorted."""
    first = np.flatnonzero(changes(owners))
    lengths = np.diff(np.append(first, len(owners)))
    return np.arange(len(owners)) - np.repeat(first, lengths)
