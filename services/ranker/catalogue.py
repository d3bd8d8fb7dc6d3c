"""The items the ranker knows: followed from candidate, kept in Postgres, held in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc, catalogue_pb2
from heliograph.type.v1alpha1 import attribute_pb2
from numpy.typing import NDArray

from services.ranker.feature_store import queries
from services.ranker.features import (
    CONTENT_DIMENSIONS,
    Embedding,
    ItemRecord,
    ItemTable,
    content_ref,
    content_vector,
    item_key,
)
from services.ranker.features.items import AttributeValue
from services.ranker.training.log import LogContents
from services.runtime.database import Database, UnitOfWork

REFRESH_ROWS = 5000
PUT_ROWS = 500
"""Taken over at a time: about a millisecond."""
_NO_VECTOR = np.zeros(CONTENT_DIMENSIONS, np.float32)


class Catalogue:
    """All items in memory (about 700 bytes each), the same in every replica after `refresh`."""

    def __init__(
        self, database: Database, candidate: candidate_pb2_grpc.CandidateServiceAsyncStub
    ) -> None:
        self._database = database
        self._candidate = candidate
        self._table = ItemTable()
        self._change = 0

    @property
    def items(self) -> ItemTable:
        """The items; they stay as they are until the event loop has its turn."""
        return self._table

    async def follow(self) -> None:
        """Read candidate's changes since the cursor; each batch commits with its cursor."""
        async with self._database.read() as work:
            (row,) = await work.rows(queries.read_cursor, {"log": "items"})
        cursor = row.cursor
        request = catalogue_pb2.WatchItemsRequest(cursor=cursor, embeddings=True)
        async for batch in self._candidate.WatchItems(request):
            contents = await asyncio.to_thread(_contents, batch)
            async with self._database.unit_of_work() as work:
                (standing,) = await work.rows(queries.lock_cursor, {"log": "items"})
                if standing.cursor != cursor:
                    return  # another reader is ahead
                await _store(work, contents)
                moved = {"log": "items", "cursor": batch.cursor}
                await work.execute(queries.write_cursor, moved)
                await work.commit()
            cursor = batch.cursor

    async def refresh(self) -> None:
        """Take over what has been committed since the last refresh, by any replica."""
        more = True
        while more:
            async with self._database.read() as work:
                rows = await work.rows(
                    queries.changed_items, {"change": self._change, "most": REFRESH_ROWS}
                )
            for start in range(0, len(rows), PUT_ROWS):
                part = rows[start : start + PUT_ROWS]
                self._put(part)
                self._change = part[-1].change
                await asyncio.sleep(0)
            more = len(rows) == REFRESH_ROWS

    async def contents(self, refs: NDArray[np.int64]) -> LogContents:
        """Content vectors of references, also of versions that have been replaced."""
        distinct = np.unique(refs)
        async with self._database.read() as work:
            rows = await work.rows(
                queries.read_contents, {"refs": distinct[distinct != 0].tolist()}
            )
        found = np.array([row.content_ref for row in rows], np.int64)
        vectors = [np.frombuffer(row.vector, "<f4") for row in rows]
        return LogContents(found, np.array(vectors, np.float32).reshape(-1, CONTENT_DIMENSIONS))

    def _put(self, rows: Sequence[Any]) -> None:
        for row in rows:
            vector = _NO_VECTOR if row.vector is None else np.frombuffer(row.vector, "<f4")
            history = (row.sends, row.opens, row.scored, row.scores)
            self._table.put_record(ItemRecord(row.item_key, row.content_ref, vector, history))


@dataclass(frozen=True, slots=True)
class _Content:
    """One version of an item's content, as it is stored."""

    item_id: str
    version: int
    ref: int
    vector: bytes


def _contents(batch: catalogue_pb2.WatchItemsResponse) -> list[_Content]:
    """What the items of a batch have as content; blocks."""
    embeddings = {
        (made.item_id, made.content_version): Embedding(
            made.model, np.frombuffer(made.vector, "<f2")
        )
        for made in batch.embeddings
    }
    found = []
    for item in {item.item_id: item for item in batch.items}.values():
        embedding = embeddings.get((item.item_id, item.content_version))
        attributes = {
            name: value
            for name, attribute in item.attributes.items()
            if (value := _attribute(attribute)) is not None
        }
        vector = content_vector(item.item_type, attributes, embedding)
        ref = content_ref(item.item_id, item.content_version, embedding)
        stored = vector.astype("<f4").tobytes()
        found.append(_Content(item.item_id, item.content_version, ref, stored))
    return found


async def _store(work: UnitOfWork, contents: Sequence[_Content]) -> None:
    """Keep contents, and point their items at them."""
    if not contents:
        return
    refs = [content.ref for content in contents]
    versions = [content.version for content in contents]
    kept = {
        "refs": refs,
        "item_ids": [content.item_id for content in contents],
        "versions": versions,
        "vectors": [content.vector for content in contents],
    }
    await work.execute(queries.put_contents, kept)
    keys = [item_key(content.item_id) for content in contents]
    await work.execute(queries.put_items, {"keys": keys, "refs": refs, "versions": versions})


def _attribute(value: attribute_pb2.AttributeValue) -> AttributeValue | None:
    """The value as features take it; None for times, spans and non-finite numbers."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return value.number_value if np.isfinite(value.number_value) else None
        case "int_value":
            return value.int_value
        case "bool_value":
            return value.bool_value
        case "list_value":
            return list(value.list_value.values)
        case "map_value":
            return dict(value.map_value.values)
        case _:
            return None
