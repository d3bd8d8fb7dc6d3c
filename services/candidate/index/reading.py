"""Reads from Postgres what one snapshot has and an earlier one had not.

A shard reads all of it and keeps what is its users': whose a row is, is not for the database to
say. Attributes have the types that the table of them says, whatever values a process comes upon.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sqlalchemy import TextClause

from services.candidate.attribute_types import Owner, types_of_all
from services.candidate.attributes import read_item, read_user
from services.candidate.catalogue_store import QUERIES, RelationKind
from services.candidate.copying import Types, copied, parts, rows_of
from services.candidate.expressions import (
    AttributeType,
    Columns,
    ColumnsBuilder,
    Schema,
    TypedValue,
)
from services.candidate.index.entities import Entities, Placement, merge_entities
from services.candidate.index.share import ALL, Share
from services.candidate.index.tables import (
    Tables,
    joined,
    merge_interactions,
    no_interactions,
)
from services.candidate.index.ties import NamedTies, Ties, merge_ties, no_ties, put_ties
from services.candidate.models import Interactions
from services.candidate.sources.arrays import NONE
from services.candidate.text import DIMENSIONS
from services.candidate.text.item_vectors import changed_vectors
from services.runtime.database import UnitOfWork

BEGINNING = "3:3:"
"""The snapshot that saw nothing: no transaction has a number below 3."""
ROWS = 5_000
"""Users or items read at a time."""
_INTERACTIONS: Types = {
    "user": pa.string(),
    "item": pa.string(),
    "time": pa.float64(),
    "weight": pa.float32(),
}
_RELATIONS: Types = {
    "user": pa.string(),
    "kind": pa.int8(),
    "target": pa.string(),
    "strength": pa.float32(),
}


async def current_snapshot(work: UnitOfWork) -> str:
    """Which transactions this one sees."""
    (row,) = await work.rows(QUERIES.current_snapshot)
    return str(row[0])


async def changed_since(work: UnitOfWork, snapshot: str) -> bool:
    """Whether there is anything in the user index's tables that the snapshot did not see."""
    (row,) = await work.rows(QUERIES.changed_since, {"snapshot": snapshot})
    return bool(row[0])


async def read_changes(
    work: UnitOfWork, known: Tables, snapshot: str, share: Share = ALL
) -> tuple[Tables, Placement, Placement]:
    """`known`, which was read in `snapshot`, as it is in this transaction's snapshot, and where its
    users and items are now. Of the users only the share's. `known` has to be in force: see
    `retyped`."""
    since = {"snapshot": snapshot}
    types = await types_of_all(work)
    erased = await _erased_since(work, snapshot)
    changed_users = _Changed.none(types, Owner.USER, read_user, share)
    await changed_users.read_all(work, QUERIES.changed_users, since)
    gone = await _gone_users(work, known.users) if erased else frozenset()
    users, placed_users = await asyncio.to_thread(changed_users.merged, known.users, gone)
    changed_items = _Changed.none(types, Owner.ITEM, read_item)
    await changed_items.read_all(work, QUERIES.changed_items_since, since)
    items, placed_items = await asyncio.to_thread(changed_items.merged, known.items)
    newer = await _interactions(work, since, users, items)
    interactions = await asyncio.to_thread(
        merge_interactions, known.interactions, newer, placed_users, placed_items
    )
    tables = Tables(
        users,
        items,
        placed_users.merge(known.user_created, changed_users.fact(0, "datetime64[us]")),
        placed_items.merge(known.item_created, changed_items.fact(0, "datetime64[us]")),
        placed_items.merge(known.item_live, changed_items.fact(1, np.bool_)),
        await _texts(work, known, since, items, placed_items),
        interactions,
        await _ties(work, known, since, users, placed_users, erased),
    )
    return tables, placed_users, placed_items


async def retyped(work: UnitOfWork, known: Tables) -> bool:
    """Whether an attribute has another type by now, or one at all of which `known` left out values:
    then all has to be read again."""
    types = await types_of_all(work)
    return not (
        _in_force(known.users.columns, types[Owner.USER])
        and _in_force(known.items.columns, types[Owner.ITEM])
    )


def _in_force(columns: Columns, types: Mapping[str, AttributeType]) -> bool:
    left_out = columns.mistyped.keys() - columns.types.keys()
    same = all(types.get(name) is kind for name, kind in columns.types.items())
    return same and types.keys().isdisjoint(left_out)


@dataclass(slots=True)
class _Changed:
    """Users or items of a share in the order in which they are read."""

    columns: ColumnsBuilder
    read: Callable[[bytes], Mapping[str, TypedValue]]
    share: Share
    ids: list[str] = field(default_factory=list)
    new: set[str] = field(default_factory=set)
    """Those that were stored for the first time, or again after a removal."""
    facts: list[Sequence[Any]] = field(default_factory=list)
    """What else is read of each."""

    @classmethod
    def none(
        cls,
        types: Mapping[Owner, Mapping[str, AttributeType]],
        owner: Owner,
        read: Callable[[bytes], Mapping[str, TypedValue]],
        share: Share = ALL,
    ) -> "_Changed":
        """Nothing has been read."""
        return cls(ColumnsBuilder(Schema(types[owner], owner=owner.value)), read, share)

    async def read_all(self, work: UnitOfWork, query: TextClause, since: Mapping[str, str]) -> None:
        """Read what a query finds."""
        async for rows in work.stream(query, since, ROWS):
            await asyncio.to_thread(self.take, rows)

    def fact(self, place: int, kind: npt.DTypeLike) -> npt.NDArray[Any]:
        """One of the facts, of each."""
        return np.array([facts[place] for facts in self.facts], kind)

    def merged(
        self, known: Entities, gone: frozenset[str] = frozenset()
    ) -> tuple[Entities, Placement]:
        """`known` with those among them, and without those who are gone."""
        return merge_entities(known, self.ids, self.columns.finish(), new=self.new, gone=gone)

    def take(self, rows: Sequence[Sequence[Any]]) -> None:
        """The next ones."""
        for place in self.share.rows([row[0] for row in rows]).tolist():
            name, body, new, *facts = rows[place]
            self.ids.append(name)
            if new:
                self.new.add(name)
            self.columns.add(self.read(body))
            self.facts.append(facts)


async def _erased_since(work: UnitOfWork, snapshot: str) -> bool:
    """Whether anyone was erased whom the snapshot may have seen."""
    if snapshot == BEGINNING:
        return False
    (row,) = await work.rows(QUERIES.erased_since, {"snapshot": snapshot})
    return bool(row[0])


async def _gone_users(work: UnitOfWork, known: Entities) -> frozenset[str]:
    """Users who were erased; what is left of them is that they are not there."""
    table = await copied(work, QUERIES.all_user_ids, {}, {"user": pa.string()})
    stored: list[Any] = await asyncio.to_thread(table["user"].to_pylist)
    return frozenset(known.rows.keys() - stored)


async def _texts(
    work: UnitOfWork,
    known: Tables,
    since: Mapping[str, str],
    items: Entities,
    placed: Placement,
) -> npt.NDArray[np.float16]:
    names, vectors = await changed_vectors(work, since["snapshot"])
    if not names and placed.source is placed.before:
        return known.item_texts
    blank = np.zeros((int(placed.source.max(initial=-1)) + 1, DIMENSIONS), np.float16)
    texts = placed.merge(known.item_texts, blank[: max(len(blank) - placed.count, 0)])
    texts[[items.rows[name] for name in names]] = vectors
    return texts


async def _ties(
    work: UnitOfWork,
    known: Tables,
    since: Mapping[str, str],
    users: Entities,
    placed: Placement,
    erased: bool,
) -> Ties:
    """Where someone was erased, all are read again unless those known and changed are as many as
    are stored: then they are the same. A shard, which knows but some, always does."""
    changed = await copied(work, QUERIES.changed_relations, since, _RELATIONS)
    removed = await copied(work, QUERIES.removed_relations, since, _RELATIONS)

    ended, put = _named(removed, users), _named(changed, users)
    ties = await asyncio.to_thread(merge_ties, known.ties, users, placed, ended, put)
    if not erased:
        return ties
    (row,) = await work.rows(QUERIES.count_relations)
    if ties.count == row[0]:
        return ties
    stored = await copied(work, QUERIES.changed_relations, {"snapshot": BEGINNING}, _RELATIONS)
    none = no_ties(len(users.ids))
    return await asyncio.to_thread(put_ties, none, users, _named(stored, users))


def _named(table: pa.Table, users: Entities) -> NamedTies:
    """Relations whose users are known."""
    rows = rows_of(users.rows, table["user"])
    table, rows = table.filter(pa.array(rows != NONE)), rows[rows != NONE]
    targets = rows_of(users.rows, table["target"])
    strangers: list[Any] = table["target"].filter(pa.array(targets == NONE)).to_pylist()
    return NamedTies(
        rows,
        targets,
        strangers,
        table["strength"].to_numpy(),
        table["kind"].to_numpy() == int(RelationKind.FRIEND),
    )


async def _interactions(
    work: UnitOfWork, since: Mapping[str, str], users: Entities, items: Entities
) -> Interactions:
    found = [no_interactions(users.ids, items.ids)]
    async for table in parts(work, QUERIES.changed_interactions, since, _INTERACTIONS):
        found.append(await asyncio.to_thread(_placed, table, users, items))
    return await asyncio.to_thread(joined, found)


def _placed(table: pa.Table, users: Entities, items: Entities) -> Interactions:
    rows = rows_of(users.rows, table["user"])
    table, rows = table.filter(pa.array(rows != NONE)), rows[rows != NONE]
    return Interactions(
        users.ids,
        items.ids,
        rows,
        rows_of(items.rows, table["item"]),
        table["time"].to_numpy(),
        table["weight"].to_numpy(),
    )
