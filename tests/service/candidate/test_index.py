"""The user index follows what is committed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import structlog
from heliograph.type.v1alpha1 import event_pb2
from sqlalchemy import text
from structlog.testing import capture_logs

from services.candidate.attribute_types import AttributeTypes, Owner
from services.candidate.catalogue import CatalogueWriter
from services.candidate.catalogue_store import Interaction, Record, Relation, RelationKind
from services.candidate.expressions import AttributeType, compile_filter
from services.candidate.index import IndexOptions, UserIndex, reading
from services.candidate.index.model_folder import ModelFolder
from services.candidate.index.prediction import Prediction
from services.candidate.index.share import ALL, Share
from services.candidate.index.tables import Tables
from services.candidate.messages import attribute_types
from services.candidate.models import FitOptions, Interactions, fit, load, save
from services.candidate.settings import CandidateSettings
from services.candidate.sources.arrays import NONE, Matrix
from services.candidate.upkeep import Upkeep
from services.runtime.clock import Clock
from services.runtime.database import Database
from tests.conftest import OpenDatabase
from tests.service.candidate.calls import NOW

NAMES = [*(f"u{number:02}" for number in range(30)), "ü,1", 'q"uote', "back\\slash", "Z", "10"]
STRANGERS = ["studio", 'l,a"bel']
ITEMS = [*(f"i{number}" for number in range(8)), 'it"em, 9']


def _user(name: str, random: Random) -> Record:
    user = event_pb2.User(user_id=name)
    if random.random() < 0.7:
        user.attributes["age"].int_value = random.randint(0, 9)
    if random.random() < 0.3:
        user.attributes["group"].string_value = random.choice(["a", "b", ""])
    if random.random() < 0.3:
        user.attributes["tags"].list_value.values.extend(random.choices("xyz", k=2))
    return _record(user)


def _record(user: event_pb2.User) -> Record:
    body = user.SerializeToString(deterministic=True)
    return Record(user.user_id, body, None, types=attribute_types(user.attributes))


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
    await writer.put_relations([_relation(random) for _ in range(6)], now)


def _relation(random: Random) -> Relation:
    kind = random.choice(list(RelationKind))
    user, target = random.sample([*NAMES, *STRANGERS] if kind is RelationKind.FOLLOWS else NAMES, 2)
    return Relation(user, kind, target, random.choice([0.25, 1.0]), removed=random.random() < 0.2)


async def _read(
    database: Database, known: Tables, since: str, share: Share = ALL
) -> tuple[Tables, str]:
    async with database.read() as work:
        snapshot = await reading.current_snapshot(work)
        tables, _, _ = await reading.read_changes(work, known, since, share)
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
        "follows": _ties(tables, tables.ties.follows),
        "friends": _ties(tables, tables.ties.friends),
        "matches": [
            compile_filter(text, tables.users.columns.schema)
            .evaluate(tables.users.columns, NOW, np.arange(len(users)))
            .matches.tolist()
            for text in ("user.age > 4", "user.group == 'a'", "'x' in user.tags")
        ],
    }


def _ties(tables: Tables, ties: Matrix) -> dict[tuple[str, str], float]:
    actors = tables.relations().actor_ids
    found = ties.tocoo()
    return {
        (actors[row], actors[column]): strength
        for row, column, strength in zip(*found.coords, found.data, strict=True)
    }


@pytest.mark.parametrize("share", [ALL, Share(1, 2)], ids=["all", "shard"])
async def test_what_follows_is_what_is_read_anew(open_database: OpenDatabase, share: Share) -> None:
    database = open_database("candidate")
    writer = CatalogueWriter(database, AttributeTypes(database), timedelta(days=30))
    random = Random(4)
    await writer.put_users([_user(name, random) for name in NAMES], NOW)
    known, snapshot = await _read(database, Tables.empty(), reading.BEGINNING, share)
    for _ in range(12):
        for _ in range(random.randint(0, 2)):
            await _change(writer, random)
        known, snapshot = await _read(database, known, snapshot, share)
        anew, _ = await _read(database, Tables.empty(), reading.BEGINNING, share)
        assert _plain(known) == _plain(anew)
    assert len(known.interactions) > 20
    assert known.ties.follows.nnz > 5
    assert known.ties.friends.nnz > 1


async def test_marks_of_removed_relations_leave_after_the_retention(
    open_database: OpenDatabase,
) -> None:
    database, settings = open_database("candidate"), CandidateSettings()
    writer, upkeep = (
        CatalogueWriter(database, AttributeTypes(database), timedelta(days=30)),
        Upkeep(database, settings),
    )
    await writer.put_users([_user("u00", Random(1))], NOW)
    for removed in (False, True):
        tie = Relation("u00", RelationKind.FOLLOWS, "studio", 1.0, removed=removed)
        await writer.put_relations([tie], NOW)
    counts = []
    for days in (-1, 1):
        await upkeep.run(NOW + settings.retention + timedelta(days=days))
        async with database.read() as work:
            (row,) = await work.rows(text("SELECT count(*) FROM removed_relations"))
        counts.append(row[0])
    assert counts == [1, 0]


async def test_a_transaction_that_commits_late_is_not_missed(open_database: OpenDatabase) -> None:
    database = open_database("candidate")
    writer = CatalogueWriter(database, AttributeTypes(database), timedelta(days=30))
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
    writer = CatalogueWriter(database, AttributeTypes(database), timedelta(days=30))
    await writer.put_users([_user("a", Random(1))], NOW)
    known, snapshot = await _read(database, Tables.empty(), reading.BEGINNING)
    again, _ = await _read(database, known, snapshot)
    assert again.users is known.users
    assert again.interactions is known.interactions


async def test_a_type_that_is_corrected_is_followed(open_database: OpenDatabase) -> None:
    """What can be converted counts, what can't doesn't; a process that starts sees the same."""
    database = open_database("candidate")
    types = AttributeTypes(database)
    writer = CatalogueWriter(database, types, timedelta(days=30))
    index = UserIndex(database, Clock(), IndexOptions(timedelta(days=1), 0, 1))
    users = [event_pb2.User(user_id=name) for name in "abc"]
    for user, level in zip(users, (1.0, 2.5, 3.0), strict=True):
        user.attributes["level"].number_value = level
    await writer.put_users([_record(user) for user in users], NOW)
    before = (await index.refresh()).user_columns
    assert before.types["level"] is AttributeType.DOUBLE
    await types.set(Owner.USER, "level", AttributeType.INT, "r1", NOW)
    anew = UserIndex(database, Clock(), IndexOptions(timedelta(days=1), 0, 1))
    for columns in ((await index.refresh()).user_columns, (await anew.refresh()).user_columns):
        assert columns.types["level"] is AttributeType.INT
        assert columns.lists(np.arange(3))["level"] == [1, None, 3]
        assert dict(columns.mistyped) == {"level": 1}


async def test_values_that_came_without_a_type_count_once_it_has_one(
    open_database: OpenDatabase,
) -> None:
    """Code from before the table of types stores users all the same."""
    database = open_database("candidate")
    writer = CatalogueWriter(database, AttributeTypes(database), timedelta(days=30))
    index = UserIndex(database, Clock(), IndexOptions(timedelta(days=1), 0, 1))
    old, new = event_pb2.User(user_id="a"), event_pb2.User(user_id="b")
    old.attributes["level"].int_value = 1
    new.attributes["level"].int_value = 2
    await writer.put_users([Record("a", old.SerializeToString(), None)], NOW)
    columns = (await index.refresh()).user_columns
    assert "level" not in columns.types
    assert dict(columns.mistyped) == {"level": 1}
    await writer.put_users([_record(new)], NOW)
    columns = (await index.refresh()).user_columns
    assert columns.lists(np.arange(2))["level"] == [1, 2]
    assert not columns.mistyped


async def test_a_model_folder_is_served_and_a_harmed_one_is_refused(
    open_database: OpenDatabase, tmp_path: Path
) -> None:
    database, random = open_database("candidate"), Random(2)
    writer = CatalogueWriter(database, AttributeTypes(database), timedelta(days=30))
    await writer.put_users([_user(name, random) for name in NAMES], NOW)
    await writer.put_items([Record(name, b"", NOW) for name in ITEMS], NOW)
    pairs = [
        Interaction(user, item, NOW - timedelta(hours=random.randint(0, 999)), 1.0, "", "")
        for user in NAMES
        for item in random.sample(ITEMS, k=3)
    ]
    await writer.put_interactions(pairs, NOW)
    tables, _ = await _read(database, Tables.empty(), reading.BEGINNING)
    save(fit(tables.interactions, FitOptions(effort="full")), tmp_path)
    folder = ModelFolder(tmp_path, structlog.get_logger())
    options = IndexOptions(timedelta(days=1), 0, 1)
    index = UserIndex(database, Clock(), options, folder)
    first = (await index.fitted()).prediction
    assert isinstance(first, Prediction)
    rows = np.arange(len(NAMES))
    expected = load(tmp_path).relevance(
        "items", rows, next(load(tmp_path).scored("items", rows))[1]
    )
    found = first.relevance("items", rows)
    known = np.isfinite(expected)
    np.testing.assert_allclose(found[known], expected[known], rtol=1e-4)
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    with capture_logs() as logs:
        again = (await index.fitted()).prediction
        await index.fitted()
    assert isinstance(again, Prediction)
    assert again.model is first.model
    assert [line["event"] for line in logs] == ["model_refused"]
    await writer.put_users([_user("someone new", random)], NOW)
    grown = (await index.fitted()).prediction
    assert grown.relevance("users", np.array([0])).shape == (1, len(NAMES) + 1)
    save(fit(tables.interactions, FitOptions(effort="quick")), tmp_path)
    latest = (await index.fitted()).prediction
    assert isinstance(latest, Prediction)
    assert latest.model is not first.model


async def test_whom_a_served_model_knows_may_come_later(
    open_database: OpenDatabase, tmp_path: Path
) -> None:
    """Users and items that come after the model are known by their ids, unless removed between."""
    database, random = open_database("candidate"), Random(3)
    pairs = [(user, item) for user in NAMES for item in random.sample(range(len(ITEMS)), k=3)]
    ids, items = sorted(NAMES), sorted(ITEMS)
    users = np.array([ids.index(user) for user, _ in pairs])
    likes = Interactions(
        ids, items, users, np.array([i for _, i in pairs]), None, np.ones(len(pairs), np.float32)
    )
    save(fit(likes, FitOptions(effort="quick")), tmp_path)
    folder = ModelFolder(tmp_path, structlog.get_logger())
    index = UserIndex(database, Clock(), IndexOptions(timedelta(days=1), 0, 1), folder)
    assert (await index.fitted()).prediction.scores("users", np.arange(0)).shape == (0, 0)
    writer = CatalogueWriter(database, AttributeTypes(database), timedelta(days=30))
    for half in (ids[::2], ids[1::2]):
        await writer.put_users([Record(name, b"", None) for name in half], NOW)
        await writer.put_items([Record(name, b"", NOW) for name in items], NOW)
        liked = [Interaction(u, items[i], NOW, 1.0, "", "") for u, i in pairs if u in half]
        await writer.put_interactions(liked, NOW)
        followed = (await index.refresh()).prediction
    again = ModelFolder(tmp_path, structlog.get_logger())
    anew = UserIndex(database, Clock(), IndexOptions(timedelta(days=1), 0, 1), again)
    whole = (await anew.fitted()).prediction
    rows = np.arange(len(items))
    assert isinstance(followed, Prediction)
    np.testing.assert_array_equal(followed.relevance("users", rows), whole.relevance("users", rows))
    taste = followed.user_tastes[ids.index("u03")].copy()
    await writer.erase_user("u03", NOW)
    await index.refresh()
    await writer.put_users([Record("u03", b"", None)], NOW + timedelta(days=1))
    stranger = (await index.refresh()).prediction
    assert isinstance(stranger, Prediction)
    assert stranger.known["users"][ids.index("u03")] == NONE
    assert not np.array_equal(stranger.user_tastes[ids.index("u03")], taste)
