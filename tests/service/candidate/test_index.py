"""The user index follows what is committed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random
from typing import Any

import numpy as np
from heliograph.type.v1alpha1 import event_pb2

from services.candidate.catalogue import CatalogueWriter
from services.candidate.catalogue_store import Interaction, Record
from services.candidate.expressions import AttributeType, compile_filter
from services.candidate.index import IndexOptions, UserIndex, reading
from services.candidate.index.tables import Tables
from services.runtime.clock import Clock
from services.runtime.database import Database
from tests.conftest import OpenDatabase
from tests.service.candidate.calls import NOW

NAMES = [*(f"u{number:02}" for number in range(30)), "ü,1", 'q"uote', "back\\slash", "Z", "10"]
ITEMS = [*(f"i{number}" for number in range(8)), 'it"em, 9']


def _user(name: str, random: Random) -> Record:
    user = event_pb2.User(user_id=name)
    if random.random() < 0.7:
        user.attributes["age"].int_value = random.randint(0, 9)
    if random.random() < 0.3:
        user.attributes["group"].string_value = random.choice(["a", "b", ""])
    if random.random() < 0.3:
        user.attributes["tags"].list_value.values.extend(random.choices("xyz", k=2))
    return Record(name, user.SerializeToString(deterministic=True), None)


async def _change(writer: CatalogueWriter, random: Random) -> None:
    now = NOW + timedelta(seconds=random.randint(0, 10**6))
    for name in random.sample(NAMES, k=random.randint(0, 3)):
        await writer.erase_user(name, now)
    await writer.put_users([_user(n, random) for n in random.sample(NAMES, k=6)], now)
    items = random.sample(ITEMS, k=2)
    gone = random.random() < 0.3
    await writer.put_items([Record(n, b"", now, deleted=gone) for n in items], now)
    pairs = [
        Interaction(random.choice(NAMES), random.choice(ITEMS), now, random.choice([1.0, -0.5]), "")
        for _ in range(10)
    ]
    await writer.put_interactions(pairs, now)  # those of unknown users or items are refused


async def _read(database: Database, known: Tables, since: str) -> tuple[Tables, str]:
    async with database.read() as work:
        snapshot = await reading.current_snapshot(work)
        tables, _, _ = await reading.read_changes(work, known, since)
    return tables, snapshot


def _plain(tables: Tables) -> dict[str, Any]:
    """All of it, whatever the order of interactions."""
    pairs = tables.interactions
    assert pairs.times is not None
    users, items = tables.users.ids, tables.items.ids
    assert pairs.user_ids is users
    return {
        "users": list(users),
        "items": [*zip(items, tables.item_created, tables.item_live, strict=True)],
        "pairs": sorted(
            (users[user], items[item], time, weight)
            for user, item, time, weight in zip(
                pairs.users, pairs.items, pairs.times, pairs.weights, strict=True
            )
        ),
        "rows": tables.users.rows,
        "matches": [
            compile_filter(text, tables.users.columns.schema)
            .evaluate(tables.users.columns, NOW, np.arange(len(users)))
            .matches.tolist()
            for text in ("user.age > 4", "user.group == 'a'", "'x' in user.tags")
        ],
    }


async def test_what_follows_is_what_is_read_anew(open_database: OpenDatabase) -> None:
    database = open_database("candidate")
    writer = CatalogueWriter(database, timedelta(days=30))
    random = Random(4)
    await writer.put_users([_user(name, random) for name in NAMES], NOW)
    known, snapshot = await _read(database, Tables.empty(), reading.BEGINNING)
    for _ in range(12):
        for _ in range(random.randint(0, 2)):
            await _change(writer, random)
        known, snapshot = await _read(database, known, snapshot)
        anew, _ = await _read(database, Tables.empty(), reading.BEGINNING)
        assert _plain(known) == _plain(anew)
    assert len(known.interactions) > 20


async def test_a_transaction_that_commits_late_is_not_missed(open_database: OpenDatabase) -> None:
    database = open_database("candidate")
    writer = CatalogueWriter(database, timedelta(days=30))
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def late() -> None:
        async with database.unit_of_work() as work:
            await work.execute(reading.QUERIES.upsert_users, _one("late"))
            begun.set()
            await go_on.wait()
            await work.commit()

    task = asyncio.create_task(late())
    await begun.wait()
    await writer.put_users([_user("early", Random(1))], NOW)
    known, snapshot = await _read(database, Tables.empty(), reading.BEGINNING)
    assert list(known.users.ids) == ["early"]
    go_on.set()
    await task
    known, _ = await _read(database, known, snapshot)
    assert list(known.users.ids) == ["early", "late"]


def _one(name: str) -> dict[str, object]:
    return {"ids": [name], "bodies": [b""], "create_times": [None], "undated": [name], "now": NOW}


async def test_nothing_new_is_the_same_tables(open_database: OpenDatabase) -> None:
    database = open_database("candidate")
    writer = CatalogueWriter(database, timedelta(days=30))
    await writer.put_users([_user("a", Random(1))], NOW)
    known, snapshot = await _read(database, Tables.empty(), reading.BEGINNING)
    again, _ = await _read(database, known, snapshot)
    assert again.users is known.users
    assert again.interactions is known.interactions


async def test_an_attribute_that_changes_its_type_is_noticed(open_database: OpenDatabase) -> None:
    database = open_database("candidate")
    writer = CatalogueWriter(database, timedelta(days=30))
    index = UserIndex(database, Clock(), IndexOptions(timedelta(days=1), 0, 1))
    number, text = event_pb2.User(), event_pb2.User()
    number.attributes["level"].int_value = 3
    text.attributes["level"].string_value = "three"
    names = ["a", "b"]
    await writer.put_users([Record(n, number.SerializeToString(), None) for n in names], NOW)
    types = [(await index.refresh()).user_columns.types["level"]]
    for time in range(3):
        again = [Record(n, text.SerializeToString(), NOW + timedelta(days=time)) for n in names]
        await writer.put_users(again, NOW)
        types.append((await index.refresh()).user_columns.types["level"])
    assert types[0] is AttributeType.INT
    assert types[-1] is AttributeType.STRING
