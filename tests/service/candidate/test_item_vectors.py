"""Vectors of items: each change makes one, in bounded runs, whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import numpy as np
import pytest
import structlog
from heliograph.type.v1alpha1 import event_pb2
from structlog.testing import capture_logs

from services.candidate import catalogue_store
from services.candidate.attribute_types import AttributeTypes
from services.candidate.catalogue import CatalogueWriter, Changes
from services.candidate.catalogue_store import Record
from services.candidate.cursors import Position
from services.candidate.index.reading import BEGINNING
from services.candidate.text import DIMENSIONS, TextEncoder, TextModelError, weights
from services.candidate.text.encoder import Floats
from services.candidate.text.item_vectors import (
    AT_A_TIME,
    ItemVectors,
    changed_vectors,
    item_text,
)
from services.runtime.database import Database
from services.runtime.settings import RuntimeSettings
from tests.conftest import OpenDatabase
from tests.service.candidate.calls import NOW


@dataclass
class Lengths:
    """An encoder whose vectors tell the length of a text, and which keeps what it was given."""

    texts: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)
    held: threading.Event | None = None

    def embed(self, texts: Sequence[str]) -> Floats:
        self.begun.set()
        if self.held is not None:
            self.held.wait(30)
        if self.failures:
            raise self.failures.pop()
        self.texts += texts
        vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
        vectors[:, 0] = [len(text) for text in texts]
        return vectors


@pytest.fixture
def database(open_database: OpenDatabase) -> Database:
    return open_database("candidate")


def task(database: Database, encoder: Lengths, most: int = 1000) -> ItemVectors:
    return ItemVectors(database, lambda: encoder, most, structlog.get_logger())


async def put(database: Database, *titles: str, prefix: str = "", deleted: bool = False) -> None:
    """Store items; an item's id is its place, its title is given."""
    items = [
        Record(
            f"{prefix}{place:04}",
            event_pb2.Item(item_id=f"{prefix}{place:04}", title=title).SerializeToString(),
            NOW,
            deleted,
        )
        for place, title in enumerate(titles)
    ]
    async with database.unit_of_work() as work:
        await catalogue_store.upsert_items(work, items, NOW)
        await work.commit()


async def stored(database: Database) -> dict[str, float]:
    async with database.read() as work:
        ids, vectors = await changed_vectors(work, BEGINNING)
    assert vectors.shape == (len(ids), DIMENSIONS)
    return dict(zip(ids, vectors[:, 0].tolist(), strict=True))


async def test_each_change_of_content_makes_one_vector(database: Database) -> None:
    encoder = Lengths()
    vectors = task(database, encoder)
    await put(database, "a", "bb", "")
    await vectors.run()
    await vectors.run()
    assert await stored(database) == {"0000": 2, "0001": 3, "0002": 0}
    await put(database, "a", "bbbb", "")
    await vectors.run()
    assert await stored(database) == {"0000": 2, "0001": 5, "0002": 0}
    assert sorted(encoder.texts) == ["", "a\n", "bb\n", "bbbb\n"]


async def test_a_new_process_makes_only_what_is_missing(database: Database) -> None:
    await put(database, "a", "bb")
    await task(database, Lengths()).run()
    await put(database, "ccc", prefix="new-")
    encoder = Lengths()
    await task(database, encoder).run()
    assert encoder.texts == ["ccc\n"]


async def test_deleted_items_get_none_until_they_are_back(database: Database) -> None:
    encoder = Lengths()
    vectors = task(database, encoder)
    await put(database, "gone", deleted=True)
    await vectors.run()
    assert encoder.texts == []
    await put(database, "gone")
    await vectors.run()
    assert await stored(database) == {"0000": 5}


async def test_a_run_is_bounded_and_the_next_goes_on(database: Database) -> None:
    encoder = Lengths()
    vectors = task(database, encoder, most=2 * AT_A_TIME)
    await put(database, *map(str, range(3 * AT_A_TIME)))
    await vectors.run()
    assert len(await stored(database)) == 2 * AT_A_TIME
    await vectors.run()
    assert len(await stored(database)) == len(encoder.texts) == 3 * AT_A_TIME


async def test_a_failure_loses_nothing_of_what_was_made(database: Database) -> None:
    encoder = Lengths(failures=[RuntimeError("out of memory")])
    vectors = task(database, encoder)
    await put(database, "a", "bb")
    with pytest.raises(RuntimeError, match="out of memory"):
        await vectors.run()
    assert await stored(database) == {}
    await vectors.run()
    assert await stored(database) == {"0000": 2, "0001": 3}


async def test_one_process_at_a_time_and_the_calls_go_on(database: Database) -> None:
    release = threading.Event()
    slow, other = Lengths(held=release), Lengths()
    await put(database, "a", "bb")
    working = asyncio.create_task(task(database, slow).run())
    assert await asyncio.to_thread(slow.begun.wait, 20)
    await task(database, other).run()
    await put(database, "changed meanwhile", "bb")  # not blocked by the work under way
    release.set()
    await working
    assert other.texts == []
    assert len(slow.texts) == 2
    await task(database, other).run()
    assert other.texts == ["changed meanwhile\n"]
    assert await stored(database) == {"0000": 18, "0001": 3}


async def test_what_commits_late_is_not_passed_over(database: Database) -> None:
    encoder = Lengths()
    vectors = task(database, encoder, most=AT_A_TIME)
    item = event_pb2.Item(item_id="late", title="late").SerializeToString()
    async with database.unit_of_work() as work:
        await catalogue_store.upsert_items(work, [Record("late", item, NOW)], NOW)
        await put(database, *map(str, range(2 * AT_A_TIME)))
        await vectors.run()
        assert len(await stored(database)) == AT_A_TIME  # nor does it hold the others up
        await work.commit()
    for _ in range(3):
        await vectors.run()
    assert len(await stored(database)) == len(encoder.texts) == 2 * AT_A_TIME + 1
    assert "late\n" in encoder.texts


async def test_without_a_model_it_says_so_once_and_tries_again(database: Database) -> None:
    encoder = Lengths()
    answers: list[Exception | Lengths] = [
        TextModelError("no file"),
        TextModelError("no file"),
        encoder,
    ]

    def opened() -> Lengths:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    await put(database, "a")
    vectors = ItemVectors(database, opened, 100, structlog.get_logger())
    with capture_logs() as lines:
        for _ in range(4):
            await vectors.run()
    assert [line["event"] for line in lines] == ["no_text_model"]
    assert lines[0]["reason"] == "no file"
    assert encoder.texts == ["a\n"]


async def test_the_model_itself_puts_like_items_together(database: Database) -> None:
    folder = weights.model_folder(RuntimeSettings().model_dir)
    weights.fetch(folder)
    await put(database, "Star Wars", "The Empire Strikes Back", "Interest rates are unchanged")
    opened = partial(TextEncoder, folder, threads=1)
    await ItemVectors(database, opened, 100, structlog.get_logger()).run()
    async with database.read() as work:
        ids, found = await changed_vectors(work, BEGINNING)
    vectors = found[np.argsort(ids)].astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3)
    assert vectors[0] @ vectors[1] > 0.4 > 0.2 > vectors[0] @ vectors[2]


def test_a_title_that_the_text_repeats_counts_once() -> None:
    assert item_text(event_pb2.Item(title="Big", text="Big: Comedy, 1988.")) == "Big: Comedy, 1988."
    assert item_text(event_pb2.Item(title="Big", text="A boy grows.")) == "Big\nA boy grows."
    assert item_text(event_pb2.Item()) == ""


async def test_an_item_is_told_of_again_with_its_embedding(database: Database) -> None:
    """Who reads from the start hears of each item once; who follows hears of each change."""
    vectors = task(database, Lengths())
    await put(database, *map(str, range(600)))
    before = await read_on(database)
    assert [len(part.items) for part in before] == [500, 100]
    assert not any(part.embeddings for part in before)

    await vectors.run()
    await put(database, "another", *map(str, range(1, 600)))
    for parts in (await read_on(database, before[-1].position), await read_on(database)):
        items = [item.item_id for part in parts for item in part.items]
        assert len(items) == len(set(items)) == 600
        versions = {item.item_id: item.content_version for part in parts for item in part.items}
        assert versions == dict.fromkeys(items, 1) | {"0000": 2}
        made = {one.item_id: one for part in parts for one in part.embeddings}
        assert made.keys() == set(items) - {"0000"}
        for part in parts:
            together = {item.item_id for item in part.items}
            assert {one.item_id for one in part.embeddings} <= together
        assert (made["0042"].content_version, made["0042"].model) == (1, weights.MODEL)
        assert np.frombuffer(made["0042"].vector, "<f2")[0] == len("42\n")

    here = (await read_on(database))[-1].position
    await vectors.run()
    (last,) = await read_on(database, here)
    assert [item.title for item in last.items] == ["another"]
    assert [(one.item_id, one.content_version) for one in last.embeddings] == [("0000", 2)]


async def test_who_does_not_ask_for_embeddings_hears_of_items_once(database: Database) -> None:
    await put(database, "a", "bb")
    await task(database, Lengths()).run()
    (only,) = await read_on(database, embeddings=False)
    assert len(only.items) == 2
    assert not only.embeddings
    assert await read_on(database, only.position, embeddings=False) == []


async def read_on(
    database: Database, after: Position | None = None, *, embeddings: bool = True
) -> list[Changes]:
    """What WatchItems tells."""
    writer = CatalogueWriter(database, AttributeTypes(database), timedelta(minutes=5))
    later = writer.changes(after or Position(), embeddings=embeddings)
    return [changes async for changes in later]
