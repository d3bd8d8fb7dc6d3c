"""Several replicas read candidate's items at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest.mock import Mock

import numpy as np
from heliograph.candidate.v1alpha1 import catalogue_pb2
from heliograph.type.v1alpha1 import event_pb2

from services.ranker.catalogue import Catalogue
from services.ranker.feature_store import queries
from services.ranker.features import content_ref, item_key
from services.runtime.database import Database
from tests.conftest import OpenDatabase

Reading = Callable[[catalogue_pb2.WatchItemsRequest], AsyncIterator[Any]]


def following(database: Database, reading: Reading) -> Catalogue:
    """A replica to whom WatchItems answers so."""
    return Catalogue(database, Mock(WatchItems=reading))


def batch(version: int, cursor: str) -> catalogue_pb2.WatchItemsResponse:
    item = event_pb2.Item(item_id="i", item_type="film", content_version=version)
    return catalogue_pb2.WatchItemsResponse(items=[item], cursor=cursor)


async def standing(database: Database) -> tuple[str, int]:
    """The cursor, and which content the item has."""
    catalogue = following(database, nothing)
    await catalogue.refresh()
    async with database.read() as work:
        (row,) = await work.rows(queries.read_cursor, {"log": "items"})
    return row.cursor, int(catalogue.items.refs(np.array([item_key("i")]))[0])


async def nothing(_: catalogue_pb2.WatchItemsRequest) -> AsyncIterator[Any]:
    for never in ():
        yield never


async def test_who_falls_behind_another_replica_changes_nothing(
    open_database: OpenDatabase,
) -> None:
    database = open_database("ranker")
    first_is_read, other_is_done = asyncio.Event(), asyncio.Event()

    async def slowly(request: catalogue_pb2.WatchItemsRequest) -> AsyncIterator[Any]:
        assert request.embeddings
        yield batch(1, "1")
        first_is_read.set()
        await other_is_done.wait()
        yield batch(2, "2")

    async def quickly(request: catalogue_pb2.WatchItemsRequest) -> AsyncIterator[Any]:
        assert request.cursor == "1"
        yield batch(2, "2")
        yield batch(3, "3")

    slow = following(database, slowly)
    quick = following(database, quickly)
    async with asyncio.timeout(30):
        behind = asyncio.create_task(slow.follow())
        await first_is_read.wait()
        assert await standing(database) == ("1", content_ref("i", 1))
        await quick.follow()
        other_is_done.set()
        await behind
    assert await standing(database) == ("3", content_ref("i", 3))
