"""ReadFeed: order, cursors, and entries that commit late."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import pytest
from heliograph.policy.v1alpha1 import feed_pb2

from services.policy import feed_entries, feed_store
from services.runtime.database import Database
from tests.service.policy.recorded import NOW, Policy


async def append(database: Database, *keys: str) -> None:
    async with database.unit_of_work() as work:
        await feed_store.append(work, NOW, [entry(key) for key in keys])
        await work.commit()


def entry(key: str) -> feed_entries.Entry:
    return feed_entries.session("ann", NOW, key, app_deleted=False)


async def read(policy: Policy, cursor: str = "", limit: int = 0) -> tuple[list[str], str, bool]:
    answer = await policy.stub.ReadFeed(feed_pb2.ReadFeedRequest(cursor=cursor, limit=limit))
    return [one.session.session_id for one in answer.entries], answer.cursor, answer.more


async def test_pages_follow_one_another_without_gap_or_repeat(policy: Policy) -> None:
    await append(policy.database, "a", "b", "c")
    await append(policy.database, "d", "e")

    first, cursor, more = await read(policy, limit=2)
    assert (first, more) == (["a", "b"], True)
    second, cursor, more = await read(policy, cursor, limit=2)
    assert (second, more) == (["c", "d"], True)
    third, cursor, more = await read(policy, cursor, limit=2)
    assert (third, more) == (["e"], False)
    assert await read(policy, cursor) == ([], cursor, False)
    await append(policy.database, "f")
    assert (await read(policy, cursor))[0] == ["f"]


async def test_an_empty_feed_answers_an_empty_cursor(policy: Policy) -> None:
    assert await read(policy) == ([], "", False)


async def test_the_cursor_never_passes_an_entry_that_commits_later(policy: Policy) -> None:
    await append(policy.database, "before")
    async with policy.database.unit_of_work() as open_work:
        await feed_store.append(open_work, NOW, [entry("late")])
        await append(policy.database, "meanwhile")

        seen, cursor, _ = await read(policy)
        assert seen == ["before"]

        await open_work.commit()

    assert await read(policy, cursor) == (["late", "meanwhile"], (await read(policy))[1], False)


async def test_an_entry_that_rolls_back_holds_nobody_up(policy: Policy) -> None:
    async with policy.database.unit_of_work() as work:
        await feed_store.append(work, NOW, [entry("never")])
    await append(policy.database, "after")

    assert (await read(policy))[0] == ["after"]


async def test_a_reader_beside_many_writers_sees_each_entry_once(policy: Policy) -> None:
    writers, batches = 6, 8
    expected = {f"{writer}-{batch}-{k}" for writer in range(writers) for batch in range(batches)
                for k in range(3)}  # fmt: skip
    seen: list[str] = []

    async def write(writer: int) -> None:
        for batch in range(batches):
            await append(policy.database, *(f"{writer}-{batch}-{k}" for k in range(3)))

    async def follow() -> None:
        cursor = ""
        while len(seen) < len(expected):
            found, cursor, _ = await read(policy, cursor, limit=7)
            seen.extend(found)

    async with asyncio.timeout(60):
        await asyncio.gather(follow(), *(write(writer) for writer in range(writers)))

    assert len(seen) == len(expected)
    assert set(seen) == expected


async def test_entries_of_several_days_come_in_the_order_of_commit(policy: Policy) -> None:
    for days in (2, 0, 1):
        async with policy.database.unit_of_work() as work:
            await feed_store.append(work, NOW + timedelta(days=days), [entry(f"day-{days}")])
            await work.commit()

    assert (await read(policy))[0] == ["day-2", "day-0", "day-1"]


@pytest.mark.parametrize(
    ("cursor", "limit", "code"),
    [
        ("nonsense", 0, grpc.StatusCode.INVALID_ARGUMENT),
        ("1:-1", 0, grpc.StatusCode.INVALID_ARGUMENT),
        (f"{2**64}:1", 0, grpc.StatusCode.OUT_OF_RANGE),
        (f"1:{10**400}", 0, grpc.StatusCode.OUT_OF_RANGE),
        ("", 10_001, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_malformed_reads_are_refused(
    policy: Policy, cursor: str, limit: int, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await read(policy, cursor, limit)

    assert failure.value.code() is code
