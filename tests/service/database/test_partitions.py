"""Day partitions under concurrency."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from services.runtime.database import Database
from services.runtime.errors import Aborted, AlreadyExists
from services.runtime.partitions import (
    drop_days_before,
    drop_partitions_before,
    ensure_day_partitions,
    existing_days,
    first_kept_day,
)

FIRST = date(2026, 2, 27)
DAYS = [FIRST + timedelta(days=offset) for offset in range(4)]
INSERT = text("INSERT INTO decision (day, slot) VALUES (:day, :slot)")
ALL = text("SELECT day, slot FROM decision ORDER BY day, slot")


@pytest.fixture
async def database(open_database: Callable[[str], Database]) -> Database:
    """Policy's database with a table partitioned by day."""
    database = open_database("policy")
    async with database.unit_of_work() as work:
        await work.execute(
            text(
                "CREATE TABLE decision (day date NOT NULL, slot int NOT NULL DEFAULT 7, "
                "number bigint GENERATED ALWAYS AS IDENTITY, "
                "twice int GENERATED ALWAYS AS (slot * 2) STORED, "
                "CONSTRAINT slot_once UNIQUE (day, slot), CONSTRAINT slot_positive CHECK (slot > 0)"
                ") PARTITION BY RANGE (day)"
            )
        )
        await work.commit()
    return database


async def partitions(database: Database) -> list[str]:
    names = text("SELECT tablename FROM pg_tables WHERE tablename LIKE 'decision\\_%' ORDER BY 1")
    async with database.read() as work:
        return [name for (name,) in await work.rows(names)]


async def test_rows_find_their_day(database: Database) -> None:
    async with database.unit_of_work() as work:
        await ensure_day_partitions(work, "decision", DAYS)
        await work.execute(INSERT, [{"day": day, "slot": 1} for day in DAYS])
        await work.commit()
    assert await partitions(database) == [f"decision_{day:%Y%m%d}" for day in DAYS]
    async with database.read() as work:
        assert [tuple(row) for row in await work.rows(ALL)] == [(day, 1) for day in DAYS]


async def test_partition_has_the_parents_constraints(database: Database) -> None:
    database.map_constraints({"slot_once": lambda: AlreadyExists("decided")})
    async with database.unit_of_work() as work:
        await ensure_day_partitions(work, "decision", [FIRST])
        await work.execute(text("INSERT INTO decision (day) VALUES (:day)"), {"day": FIRST})
        assert (await work.rows(text("SELECT slot, number, twice FROM decision")))[0] == (7, 1, 14)
        await work.commit()
    async with database.unit_of_work() as work:
        with pytest.raises(AlreadyExists):
            await work.execute(INSERT, {"day": FIRST, "slot": 7})
    async with database.unit_of_work() as work:
        with pytest.raises(DBAPIError, match="slot_positive"):
            await work.execute(INSERT, {"day": FIRST, "slot": 0})


async def test_concurrent_creators_all_succeed(database: Database) -> None:
    together = asyncio.Barrier(8)

    async def write(slot: int) -> None:
        days = DAYS if slot % 2 else DAYS[::-1]
        async with database.unit_of_work() as work:
            await together.wait()
            await ensure_day_partitions(work, "decision", days)
            await work.execute(INSERT, [{"day": day, "slot": slot} for day in days])
            await work.commit()

    await asyncio.gather(*(write(slot) for slot in range(1, 9)))
    async with database.read() as work:
        assert len(await work.rows(ALL)) == 8 * len(DAYS)


async def test_writers_to_other_days_are_not_held_up(database: Database) -> None:
    async with database.unit_of_work() as work:
        await ensure_day_partitions(work, "decision", DAYS[:1])
        await work.commit()
    async with database.unit_of_work() as writer:
        await writer.execute(INSERT, {"day": DAYS[0], "slot": 1})
        timeout = timedelta(seconds=5)
        async with database.unit_of_work(timeout=timeout) as creator:
            await ensure_day_partitions(creator, "decision", DAYS[1:2])
            await creator.execute(INSERT, {"day": DAYS[1], "slot": 1})
            await writer.execute(INSERT, {"day": DAYS[0], "slot": 2})
            await creator.commit()
        await writer.commit()


async def test_creation_that_rolled_back_is_done_again(database: Database) -> None:
    async with database.unit_of_work() as work:
        await ensure_day_partitions(work, "decision", DAYS)
        await ensure_day_partitions(work, "decision", DAYS)
    assert await partitions(database) == []
    async with database.unit_of_work() as work:
        await ensure_day_partitions(work, "decision", DAYS)
        await work.commit()
    assert len(await partitions(database)) == len(DAYS)


async def test_known_days_ask_the_database_nothing(database: Database) -> None:
    async with database.unit_of_work() as work:
        await ensure_day_partitions(work, "decision", DAYS)
        await work.commit()
    async with database.unit_of_work() as work:
        with pytest.raises(DBAPIError):
            await work.execute(text("SELECT 1 / 0"))
        await ensure_day_partitions(work, "decision", DAYS)  # would fail: aborted transaction
        with pytest.raises(DBAPIError, match="aborted"):
            await ensure_day_partitions(work, "decision", [FIRST - timedelta(days=1)])


async def test_old_days_leave_with_their_rows(database: Database) -> None:
    async with database.unit_of_work() as work:
        await ensure_day_partitions(work, "decision", DAYS)
        await work.execute(INSERT, [{"day": day, "slot": 1} for day in DAYS])
        await work.commit()
    async with database.unit_of_work() as work:
        assert await drop_partitions_before(work, "decision", DAYS[2]) == DAYS[:2]
        await work.commit()
    async with database.unit_of_work() as work:
        assert [row.day for row in await work.rows(ALL)] == DAYS[2:]
        assert await drop_partitions_before(work, "decision", DAYS[2]) == []
        await ensure_day_partitions(work, "decision", DAYS[:1])
        await work.execute(INSERT, {"day": DAYS[0], "slot": 1})
        await work.commit()


async def test_a_day_that_another_process_dropped_is_made_again(
    database: Database, open_database: Callable[[str], Database]
) -> None:
    young = FIRST + timedelta(days=30)
    async with database.unit_of_work() as work:
        await ensure_day_partitions(work, "decision", [FIRST, young])
        await work.commit()
    await drop_days_before(open_database("policy"), ["decision"], young)
    assert await partitions(database) == [f"decision_{young:%Y%m%d}"]
    async with database.unit_of_work() as work:
        await ensure_day_partitions(work, "decision", [FIRST])
        await work.execute(INSERT, {"day": FIRST, "slot": 1})
        assert await existing_days(work, "decision") == [FIRST, young]


def test_the_day_in_which_the_retention_ends_is_kept() -> None:
    now = datetime(2026, 3, 10, 0, 30, tzinfo=timezone(timedelta(hours=2)))  # 9 March in UTC
    assert first_kept_day(now, timedelta(days=2)) == date(2026, 3, 7)


async def test_dropping_gives_up_rather_than_hold_everyone_up(database: Database) -> None:
    async with database.unit_of_work() as work:
        await ensure_day_partitions(work, "decision", DAYS)
        await work.commit()
    async with database.unit_of_work() as writer:
        await writer.execute(INSERT, {"day": DAYS[0], "slot": 1})
        async with database.unit_of_work() as work:
            with pytest.raises(Aborted):
                await drop_partitions_before(work, "decision", DAYS[2])
        await writer.commit()
    assert len(await partitions(database)) == len(DAYS)
