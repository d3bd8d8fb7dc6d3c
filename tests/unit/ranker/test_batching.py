"""Runs of the model made of concurrent calls."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from services.ranker.backend import MOST_USERS
from services.ranker.batching import CALL_EVENTS, RUN_EVENTS, Batcher, Rows
from services.ranker.catalogue import Catalogue
from services.ranker.features import HEADS, Features, ItemTable
from services.ranker.features.schema import EVENT_FEATURES, USER_FEATURES, empty
from services.ranker.manifest import Manifest
from services.ranker.run_sizes import NAME
from services.ranker.triton_model.buckets import BadInputs
from services.runtime import calls
from services.runtime.errors import Unavailable

BAD = 9999


class Recorder:
    """A backend that answers each event with its user's mark and its own."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, int, int]] = []
        """Version, users and events of each."""
        self.left_s: list[float | None] = []
        self.free = asyncio.Event()
        self.free.set()
        self.begun = asyncio.Event()
        self.two_begun = asyncio.Event()
        self.under_way = 0
        self.most_under_way = 0
        self.error: Exception | None = None

    async def load(self, manifest: Manifest, folder: Path) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def score(self, version: str, inputs: Features) -> NDArray[np.float32]:
        """Waits until it is free. A user with the mark BAD is."""
        users, row = inputs["locale"], inputs["user_row"]
        self.runs.append((version, len(users), len(row)))
        self.left_s.append(calls.remaining())
        self.under_way += 1
        self.begun.set()
        if self.under_way == 2:
            self.two_begun.set()
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.free.wait()
        self.under_way -= 1
        if self.error is not None:
            raise self.error
        if (users == BAD).any():
            raise BadInputs("bad")
        scores = np.zeros((len(row), len(HEADS)), np.float32)
        scores[:, 0], scores[:, 1] = users[row], inputs["event_type"]
        return scores


def batcher(recorder: Recorder, parallel_runs: int = 1) -> Batcher:
    return Batcher(recorder, Mock(spec=Catalogue, items=ItemTable()), parallel_runs)


def rows(user_row: list[int], mark: int = 0) -> Rows:
    """A call: its users are marked from `mark` on, its events from 0."""
    count = max(user_row, default=-1) + 1
    users = {spec.name: empty(spec, count) for spec in USER_FEATURES}
    events = {spec.name: empty(spec, len(user_row)) for spec in EVENT_FEATURES}
    users["locale"] += np.arange(mark, mark + count, dtype=np.int32)
    events["event_type"] += np.arange(len(user_row), dtype=np.int32)
    return Rows(users, events, np.array(user_row, np.int64))


def expected(user_row: list[int], mark: int = 0) -> NDArray[np.float32]:
    scores = np.zeros((len(user_row), len(HEADS)), np.float32)
    scores[:, 0], scores[:, 1] = np.array(user_row) + mark, np.arange(len(user_row))
    return scores


async def test_calls_that_come_at_once_or_meanwhile_go_together() -> None:
    recorder = Recorder()
    recorder.free.clear()
    score = batcher(recorder).score
    asked = [([1, 0, 1], 100), ([0], 200), ([2, 2, 0, 1], 300), ([0, 0], 400)]
    first = [asyncio.create_task(score("a", rows(*one))) for one in asked[:2]]
    await recorder.begun.wait()
    later = [asyncio.create_task(score("a", rows(*one))) for one in asked[2:]]
    recorder.free.set()  # which the first run sees after the others have come
    found = await asyncio.gather(*first, *later)
    assert recorder.runs == [("a", 3, 4), ("a", 4, 6)]
    for one, scores in zip(asked, found, strict=True):
        np.testing.assert_array_equal(scores, expected(*one))


async def test_a_large_call_gives_way_and_is_whole_in_the_end() -> None:
    recorder = Recorder()
    score = batcher(recorder).score
    large, small = [n % 3 for n in range(1500)], [0] * 5
    order: list[str] = []

    async def asked(name: str, user_row: list[int]) -> NDArray[np.float32]:
        found = await score("a", rows(user_row))
        order.append(name)
        return found

    found = await asyncio.gather(asked("large", large), *(asked("small", small) for _ in range(4)))
    np.testing.assert_array_equal(found[0], expected(large))
    assert order == ["small"] * 4 + ["large"]
    assert [events for _, _, events in recorder.runs] == [RUN_EVENTS, RUN_EVENTS, 1520 - 1280]
    assert recorder.runs[0][1] < 3 + 4  # a user of several turns in one run stands there once


async def test_alone_a_call_has_whole_runs() -> None:
    recorder = Recorder()
    many = np.repeat(np.arange(200), 10).tolist()
    np.testing.assert_array_equal(await batcher(recorder).score("a", rows(many)), expected(many))
    assert [events for _, _, events in recorder.runs] == [RUN_EVENTS] * 3 + [80]
    few = list(range(300))
    await batcher(recorder).score("a", rows(few))
    assert all(users <= MOST_USERS for _, users, _ in recorder.runs)
    assert sum(events for _, _, events in recorder.runs[4:]) == 300
    assert CALL_EVENTS < RUN_EVENTS


async def test_no_more_runs_go_on_than_stated() -> None:
    recorder = Recorder()
    recorder.free.clear()
    score = batcher(recorder, parallel_runs=2).score
    asked = [asyncio.create_task(score("a", rows([0] * RUN_EVENTS))) for _ in range(6)]
    await recorder.two_begun.wait()
    recorder.free.set()
    await asyncio.gather(*asked)
    assert recorder.most_under_way == 2
    assert len(recorder.runs) == 6


async def test_versions_take_turns() -> None:
    recorder = Recorder()
    score = batcher(recorder).score
    await asyncio.gather(*(score(version, rows([0] * RUN_EVENTS)) for version in "aaaabb"))
    assert [version for version, _, _ in recorder.runs] == [*"ababaa"]


async def test_what_a_model_cannot_take_fails_its_own_call_only() -> None:
    recorder = Recorder()
    score = batcher(recorder).score
    found = await asyncio.gather(
        *(score("a", rows([0], mark)) for mark in (12, BAD, 14)), return_exceptions=True
    )
    assert isinstance(found[1], BadInputs)
    np.testing.assert_array_equal(found[0], expected([0], 12))
    np.testing.assert_array_equal(found[2], expected([0], 14))
    assert len(await score("a", rows([]))) == 0


async def test_a_backend_that_is_down_fails_the_calls_of_the_run_and_the_next_go_on() -> None:
    recorder = Recorder()
    score = batcher(recorder).score
    recorder.error = Unavailable("down", reason="TRITON_UNAVAILABLE")
    large = [0] * (RUN_EVENTS + 1)
    found = await asyncio.gather(
        score("a", rows([0])), score("a", rows(large)), return_exceptions=True
    )
    assert all(isinstance(each, Unavailable) for each in found)
    recorder.error = None
    np.testing.assert_array_equal(await score("a", rows([0], 5)), expected([0], 5))
    assert recorder.runs[-1] == ("a", 1, 1)  # nothing is left of the failed ones


async def test_who_gave_up_is_left_out_and_a_run_has_the_longest_deadline() -> None:
    recorder = Recorder()
    recorder.free.clear()
    score = batcher(recorder).score

    come = asyncio.Semaphore(0)

    async def within(seconds: float | None, mark: int) -> NDArray[np.float32]:
        calls.set_deadline(seconds)
        come.release()
        return await score("a", rows([0], mark))

    first = asyncio.create_task(within(None, 1))
    await recorder.begun.wait()
    waiting = [asyncio.create_task(within(seconds, 2)) for seconds in (5.0, 50.0, 500.0)]
    for _ in range(4):
        await come.acquire()
    waiting[2].cancel()
    recorder.free.set()
    await asyncio.gather(first, *waiting[:2])
    assert recorder.runs == [("a", 1, 1), ("a", 2, 2)]
    assert recorder.left_s[0] is None
    assert recorder.left_s[1] == pytest.approx(50.0, abs=5.0)


async def test_runs_are_counted_by_their_size() -> None:
    size = {"users": "3", "events": "8", "steps": "8"}  # rounded up
    before = REGISTRY.get_sample_value(f"{NAME}_total", size) or 0
    await batcher(Recorder()).score("a", rows([0, 1, 2, 2, 2]))
    assert REGISTRY.get_sample_value(f"{NAME}_total", size) == before + 1
