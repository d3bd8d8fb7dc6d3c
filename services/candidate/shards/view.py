"""A shard's index as questions see it: with what is true of items over all shards."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from services.candidate.attributes import with_facts
from services.candidate.index import IndexState, IndexView
from services.candidate.index.prediction import ItemSum, Prediction
from services.candidate.sources.arrays import NONE, Rows
from services.runtime.errors import Aborted, Unavailable


@dataclass(frozen=True, eq=False, slots=True)
class ItemCounts:
    """How many users have interacted with each item, and like it."""

    interactions: Rows
    likes: Rows


@dataclass(frozen=True, eq=False, slots=True)
class _Others:
    """What the other shards' users have, of the items of one table."""

    ids: Sequence[str]
    counts: ItemCounts

    def of(self, ids: Sequence[str], rows: Mapping[str, int]) -> ItemCounts:
        """For another table of items: those that it was not told of have nothing yet."""
        if ids is self.ids:
            return self.counts
        places = np.array([rows.get(name, NONE) for name in self.ids], np.int64)
        kept = np.flatnonzero(places != NONE)
        found = [np.zeros(len(ids), np.int64) for _ in "ab"]
        for table, told in zip(found, (self.counts.interactions, self.counts.likes), strict=True):
            table[places[kept]] = told[kept]
        return ItemCounts(*found)


class ShardIndex:
    """An `IndexView` of one shard. An item's interactions and likes are those of all users: the
    shard's own as it knows them now, the others' as they were told last."""

    def __init__(self, index: IndexView, *, alone: bool) -> None:
        """`alone`: there are no other shards."""
        self._index = index
        self._alone = alone
        self._others: _Others | None = None
        self._seen: tuple[IndexState, _Others | None, IndexState] | None = None

    @property
    def ready(self) -> bool:
        """Whether it knows what the other shards have."""
        return self._alone or self._others is not None

    @property
    def own(self) -> IndexState:
        """Of the shard's users alone."""
        return self._index.state

    @property
    def state(self) -> IndexState:
        """Raises Unavailable as long as it doesn't know what the other shards have."""
        return self._with_others(self._index.state)

    async def refresh_own(self) -> IndexState:
        """Of the shard's users alone, with everything that is committed."""
        return await self._index.refresh()

    async def fitted_own(self) -> IndexState:
        """The same, with the model that the folder holds now."""
        return await self._index.fitted()

    async def refresh(self) -> IndexState:
        """See `IndexView`."""
        return self._with_others(await self._index.refresh())

    async def fitted(self) -> IndexState:
        """See `IndexView`."""
        return self._with_others(await self._index.fitted())

    def put_others(self, table: bytes, counts: ItemCounts) -> None:
        """Take what the other shards' users have of the items. Raises Aborted when the shard knows
        other items."""
        ids = self.own.catalogue.item_ids
        require_table(self.own, table)
        if not len(ids) == len(counts.interactions) == len(counts.likes):
            raise Aborted("the counts are of another number of items", reason="OTHER_ITEMS")
        self._others = _Others(ids, counts)

    def _with_others(self, state: IndexState) -> IndexState:
        if self._alone:
            return state
        others = self._others
        if others is None:
            raise Unavailable(
                "the shard has not been told yet what the others know", reason="SHARD_ALONE"
            )
        if self._seen is None or self._seen[0] is not state or self._seen[1] is not others:
            self._seen = state, others, _added(state, others)
        return self._seen[2]


class FixedIndex:
    """An `IndexView` of one state: for one question."""

    def __init__(self, state: IndexState) -> None:
        self.state = state

    async def refresh(self) -> IndexState:
        """The same state."""
        return self.state

    fitted = refresh


def told(state: IndexState, item: int, found: ItemSum) -> IndexState:
    """The state with what all shards' users add to an item as a query."""
    assert isinstance(state.prediction, Prediction)
    return replace(state, prediction=replace(state.prediction, told={item: found}))


def item_table(state: IndexState) -> bytes:
    """What tells one table of items from another."""
    digest = sha256()
    for name in state.catalogue.item_ids:
        digest.update(name.encode())
        digest.update(b"\0")
    return digest.digest()


def require_table(state: IndexState, table: bytes) -> None:
    """Raise Aborted when the items are others than those of a table."""
    if item_table(state) != table:
        raise Aborted("the shards have read different items", reason="OTHER_ITEMS")


def _added(state: IndexState, others: _Others) -> IndexState:
    known = state.catalogue
    counts = others.of(known.item_ids, known.item_rows)
    catalogue = copy(known)  # with what it has worked out already
    interactions = known.item_counts + counts.interactions
    catalogue.__dict__.update(item_counts=interactions, item_likes=known.item_likes + counts.likes)
    columns = with_facts(state.tables.items.columns, state.tables.item_created, interactions)
    return replace(state, catalogue=catalogue, item_columns=columns)
