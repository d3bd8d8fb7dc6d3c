"""What every channel adapter has to do: one suite, run on each."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.pacer.adapters.file import FileAdapter
from services.pacer.adapters.inbox import InboxAdapter
from services.pacer.messages import Adapter, Message, Outcome
from services.pacer.store.inbox import InboxStore
from tests.conftest import OpenDatabase

MESSAGE = Message(
    delivery_id="20260105.d0",
    decision_id="20260105.x",
    user_id="ann",
    event_id="e1",
    event_type="movie.new",
    item_ids=("i1", "i2"),
    channel="email",
    address="ann@example.org",
    locale="en",
    title="Neu: „Zeile\n2“ — ☀",
    body="<b>\x7f\\\"'",
    variant_id="template",
    deliver_time=datetime(2026, 1, 5, 9, tzinfo=UTC),
)


def messages(count: int, first: int = 0) -> list[Message]:
    return [replace(MESSAGE, delivery_id=f"20260105.d{first + n}") for n in range(count)]


@dataclass
class Subject:
    """An adapter, another instance as after a restart or in another process, and what arrived."""

    open: Callable[[], Adapter]
    arrived: Callable[[], Awaitable[list[tuple[str, str, str]]]]


@pytest.fixture(params=["inbox", "file"])
async def subject(
    request: pytest.FixtureRequest, tmp_path: Path, open_database: OpenDatabase
) -> Subject:
    if request.param == "inbox":
        store = InboxStore(open_database("pacer"))

        async def stored() -> list[tuple[str, str, str]]:
            found = await store.page("ann", (datetime.max.replace(tzinfo=UTC), ""), 10_000)
            return [(m.delivery_id, m.title, m.body) for m in found]

        return Subject(lambda: InboxAdapter(store), stored)
    path = tmp_path / "deep" / "deliveries.jsonl"

    async def lines() -> list[tuple[str, str, str]]:
        rows = map(json.loads, path.read_text().splitlines())
        return [(row["delivery_id"], row["title"], row["body"]) for row in rows]

    return Subject(lambda: FileAdapter(path, 1000), lines)


async def test_delivers_what_it_was_given(subject: Subject) -> None:
    results = await subject.open().deliver([MESSAGE])
    assert [(r.delivery_id, r.outcome, r.error) for r in results] == [
        (MESSAGE.delivery_id, Outcome.DELIVERED, "")
    ]
    assert await subject.arrived() == [(MESSAGE.delivery_id, MESSAGE.title, MESSAGE.body)]


async def test_results_are_in_the_order_given(subject: Subject) -> None:
    given = messages(50)[::-1]
    results = await subject.open().deliver(given)
    assert [r.delivery_id for r in results] == [m.delivery_id for m in given]
    assert len(await subject.arrived()) == 50


async def test_same_key_arrives_once_with_its_first_words(subject: Subject) -> None:
    adapter = subject.open()
    await adapter.deliver([MESSAGE])
    changed = replace(MESSAGE, title="other words")
    results = await adapter.deliver([changed, *messages(2, first=5), changed])
    assert all(r.outcome is Outcome.DELIVERED for r in results)
    assert len(results) == 4
    arrived = await subject.arrived()
    assert sorted(key for key, _, _ in arrived) == ["20260105.d0", "20260105.d5", "20260105.d6"]
    assert (MESSAGE.delivery_id, MESSAGE.title, MESSAGE.body) in arrived


async def test_same_key_arrives_once_across_restarts_and_processes(subject: Subject) -> None:
    one, two = subject.open(), subject.open()
    await one.deliver(messages(3))
    await two.deliver(messages(4))
    await one.deliver(messages(5))
    await subject.open().deliver(messages(6))
    assert sorted(key for key, _, _ in await subject.arrived()) == [
        f"20260105.d{n}" for n in range(6)
    ]


async def test_torn_line_of_a_crash_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    await FileAdapter(path, 1000).deliver(messages(2))
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    await FileAdapter(path, 1000).deliver(messages(2))
    assert path.read_bytes() == whole


async def test_rotated_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    adapter = FileAdapter(path, 1000)
    await adapter.deliver(messages(2))
    path.rename(tmp_path / "out.1")
    await adapter.deliver(messages(3))
    assert len(path.read_text().splitlines()) == 1


async def test_failed_write_leaves_nothing_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.jsonl"
    adapter = FileAdapter(path, 1000)
    await adapter.deliver(messages(1))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("services.pacer.adapters.file.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            await adapter.deliver(messages(3))
    assert len(path.read_text().splitlines()) == 1
    await adapter.deliver(messages(3))
    assert len(path.read_text().splitlines()) == 3


async def test_memory_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    adapter = FileAdapter(path, 1000)
    await adapter.deliver(messages(1500))
    await adapter.deliver(messages(1, first=1499))
    assert len(path.read_text().splitlines()) == 1500
    await adapter.deliver(messages(1))  # forgotten
    assert len(path.read_text().splitlines()) == 1501
