"""Reads from Postgres what one snapshot has and an earlier one had not."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv
from sqlalchemy import Row, TextClause

from services.candidate.attributes import read_item, read_user
from services.candidate.catalogue_store import QUERIES, RelationKind
from services.candidate.expressions import ColumnsBuilder, TypedValue
from services.candidate.index.entities import Entities, Placement, merge_entities
from services.candidate.index.tables import (
    Tables,
    joined,
    merge_interactions,
    no_interactions,
)
from services.candidate.models import Interactions
from services.candidate.sources.relations import Ties
from services.candidate.text import DIMENSIONS
from services.candidate.text.item_vectors import changed_vectors
from services.runtime.database import UnitOfWork

BEGINNING = "3:3:"
"""The snapshot that saw nothing: no transaction has a number below 3."""
ROWS = 5_000
"""Users or items read at a time."""
BYTES = 2**24
"""Of interactions parsed at a time."""
_COLUMNS: Mapping[str, pa.DataType] = {
    "user": pa.string(),
    "item": pa.string(),
    "time": pa.float64(),
    "weight": pa.float32(),
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
    work: UnitOfWork, known: Tables, snapshot: str
) -> tuple[Tables, Placement, Placement]:
    """`known`, which was read in `snapshot`, as it is in this transaction's snapshot, and where its
    users and items are now."""
    since = {"snapshot": snapshot}
    gone = await _gone_users(work, known, since)
    users, placed_users, changed_users = await _entities(
        work, QUERIES.changed_users, since, known.users, read_user, gone
    )
    items, placed_items, changed_items = await _entities(
        work, QUERIES.changed_items_since, since, known.items, read_item
    )
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
        await _ties(work, known, since),
    )
    return tables, placed_users, placed_items


@dataclass(slots=True)
class _Changed:
    """Users or items in the order in which they are read."""

    columns: ColumnsBuilder
    read: Callable[[bytes], Mapping[str, TypedValue]]
    ids: list[str] = field(default_factory=list)
    new: set[str] = field(default_factory=set)
    """Those that were stored for the first time, or again after a removal."""
    facts: list[Sequence[Any]] = field(default_factory=list)
    """What else is read of each."""

    def fact(self, place: int, kind: npt.DTypeLike) -> npt.NDArray[Any]:
        """One of the facts, of each."""
        return np.array([facts[place] for facts in self.facts], kind)

    def take(self, rows: Sequence[Sequence[Any]]) -> None:
        for name, body, new, *facts in rows:
            self.ids.append(name)
            if new:
                self.new.add(name)
            self.columns.add(self.read(body))
            self.facts.append(facts)


async def _entities(
    work: UnitOfWork,
    query: TextClause,
    since: Mapping[str, str],
    known: Entities,
    read: Callable[[bytes], Mapping[str, TypedValue]],
    gone: frozenset[str] = frozenset(),
) -> tuple[Entities, Placement, _Changed]:
    changed = _Changed(ColumnsBuilder(known.columns.schema, grows=True), read)
    async for rows in work.stream(query, since, ROWS):
        await asyncio.to_thread(changed.take, rows)

    def merge() -> tuple[Entities, Placement]:
        columns = changed.columns.finish()
        return merge_entities(known, changed.ids, columns, new=changed.new, gone=gone)

    entities, placement = await asyncio.to_thread(merge)
    return entities, placement, changed


async def _gone_users(work: UnitOfWork, known: Tables, since: Mapping[str, str]) -> frozenset[str]:
    """Users who were erased; what is left of them is that they are not there."""
    (row,) = await work.rows(QUERIES.erased_since, since)
    if not row[0] or not known.users.ids:
        return frozenset()
    left = {row.user_id for row in await work.rows(QUERIES.all_user_ids)}
    return frozenset(known.users.rows.keys() - left)


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
    work: UnitOfWork, known: Tables, since: Mapping[str, str]
) -> Mapping[RelationKind, Ties]:
    (row,) = await work.rows(QUERIES.ties_changed_since, since)
    if not row[0]:
        return known.ties
    rows = await work.rows(QUERIES.load_relations)
    return {kind: _of_kind(rows, kind) for kind in RelationKind}


def _of_kind(rows: Sequence[Row[Any]], kind: RelationKind) -> Ties:
    kept = [row for row in rows if row.kind == kind]
    return (
        [row.user_id for row in kept],
        [row.target_id for row in kept],
        [row.strength for row in kept],
    )


async def _interactions(
    work: UnitOfWork, since: Mapping[str, str], users: Entities, items: Entities
) -> Interactions:
    parts = [no_interactions(users.ids, items.ids)]
    rest = bytearray()
    async for block in work.copy_out(QUERIES.changed_interactions, since):
        rest += block
        if len(rest) >= BYTES:
            end = rest.rindex(b"\n") + 1
            parts.append(await asyncio.to_thread(_parsed, bytes(rest[:end]), users, items))
            del rest[:end]
    if rest:
        parts.append(await asyncio.to_thread(_parsed, bytes(rest), users, items))
    return await asyncio.to_thread(joined, parts)


def _parsed(lines: bytes, users: Entities, items: Entities) -> Interactions:
    table = csv.read_csv(
        BytesIO(lines),
        csv.ReadOptions(column_names=list(_COLUMNS)),
        convert_options=csv.ConvertOptions(column_types=dict(_COLUMNS)),
    )
    return Interactions(
        users.ids,
        items.ids,
        np.asarray(pc.index_in(table["user"], value_set=users.texts), np.int64),
        np.asarray(pc.index_in(table["item"], value_set=items.texts), np.int64),
        table["time"].to_numpy(),
        table["weight"].to_numpy(),
    )
