"""Units of work on a real Postgres."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from services.runtime import calls
from services.runtime.database import Database
from services.runtime.errors import Aborted, AlreadyExists, DeadlineExceeded, Unavailable
from services.runtime.roles import service_url

COUNT = text("SELECT count(*) FROM account")
MOVE = text("UPDATE account SET amount = amount + 1 WHERE id = :id")


@pytest.fixture
async def database(open_database: Callable[[str], Database]) -> Database:
    """Policy's database with a table of accounts 1 and 2."""
    database = open_database("policy")
    async with database.unit_of_work() as work:
        await work.execute(
            text(
                "CREATE TABLE account (id int CONSTRAINT account_once PRIMARY KEY, amount float8 "
                "CONSTRAINT amount_not_negative CHECK (amount >= 0), at timestamptz, words text[])"
            )
        )
        await work.execute(
            text("INSERT INTO account (id, amount) VALUES (:id, 0)"), [{"id": 1}, {"id": 2}]
        )
        await work.commit()
    return database


async def count(database: Database) -> int:
    async with database.read() as work:
        return int((await work.rows(COUNT))[0][0])


async def test_rolls_back_unless_told(database: Database) -> None:
    async with database.unit_of_work() as work:
        await work.execute(text("DELETE FROM account"))
    assert await count(database) == 2
    with suppress(ZeroDivisionError):
        async with database.unit_of_work() as work:
            await work.execute(text("DELETE FROM account"))
            raise ZeroDivisionError
    assert await count(database) == 2
    async with database.unit_of_work() as work:
        await work.execute(text("DELETE FROM account"))
        await work.commit()
    assert await count(database) == 0


async def test_nothing_goes_on_after_commit(database: Database) -> None:
    async with database.unit_of_work() as work:
        await work.commit()
        with pytest.raises(RuntimeError, match="ended"):
            await work.execute(COUNT)


async def test_after_commit_runs_only_then(database: Database) -> None:
    seen: list[str] = []
    async with database.unit_of_work() as work:
        work.after_commit(lambda: seen.append("rolled back"))
    async with database.unit_of_work() as work:
        work.after_commit(lambda: seen.append("committed"))
        assert seen == []
        await work.commit()
    assert seen == ["committed"]


async def test_copy_is_part_of_the_transaction(database: Database) -> None:
    moment = datetime(2026, 3, 1, 8, 30, 0, 123456, tzinfo=UTC)
    rows = [(10, 1.5, moment, ["a", 'b,"c"']), (11, None, None, None), (12, 0.1, moment, [])]
    columns = ["id", "amount", "at", "words"]
    async with database.unit_of_work() as work:
        assert await work.copy("account", columns, rows) == 3
        assert len(await work.rows(COUNT)) == 1
    assert await count(database) == 2
    async with database.unit_of_work() as work:
        await work.copy("policy.account", columns, rows)
        await work.commit()
    async with database.read() as work:
        stored = await work.rows(text("SELECT id, amount, at, words FROM account WHERE id > 9"))
    assert [tuple(row) for row in stored] == rows


async def test_copy_new_stores_all_or_none_and_the_transaction_goes_on(database: Database) -> None:
    def rows(*ids: int) -> bytes:
        fields = b"".join(struct.pack(">hiiid", 2, 4, key, 8, 0.5) for key in ids)
        return b"PGCOPY\n\xff\r\n\0" + bytes(8) + fields + b"\xff\xff"

    columns = ["id", "amount"]
    async with database.unit_of_work() as work:
        await work.execute(MOVE, {"id": 1})
        assert not await work.copy_new("account", columns, rows(20, 21, 2))
        assert await work.copy_new("account", columns, rows(20, 21))
        assert not await work.copy_new("account", columns, rows(22, 20))
        assert await work.copy_new("account", columns, rows(23))
        with pytest.raises(DBAPIError, match="amount_not_negative"):
            await work.execute(text("UPDATE account SET amount = -1"))
    assert await count(database) == 2
    async with database.unit_of_work() as work:
        assert not await work.copy_new("account", columns, rows(20, 1))
        assert await work.copy_new("account", columns, rows(20))
        await work.commit()
    assert await count(database) == 3


async def test_read_sees_one_state_and_writes_nothing(database: Database) -> None:
    async with database.read() as reading:
        before = await reading.rows(COUNT)
        async with database.unit_of_work() as work:
            await work.execute(text("DELETE FROM account"))
            await work.commit()
        assert await reading.rows(COUNT) == before
        with pytest.raises(DBAPIError, match="read-only"):
            await reading.execute(text("DELETE FROM account"))
    async with database.unit_of_work() as work:  # the pooled connection is an ordinary one again
        assert (await work.rows(text("SHOW transaction_read_only")))[0][0] == "off"
        assert (await work.rows(text("SHOW transaction_isolation")))[0][0] == "read committed"


async def test_named_constraints_become_domain_errors(database: Database) -> None:
    database.map_constraints(
        {
            "account_once": lambda: AlreadyExists("this account exists", reason="ACCOUNT_EXISTS"),
            "amount_not_negative": lambda: Aborted("too little", reason="TOO_LITTLE"),
        }
    )
    async with database.unit_of_work() as work:
        with pytest.raises(AlreadyExists) as unique:
            await work.execute(text("INSERT INTO account (id) VALUES (1)"))
    assert unique.value.reason == "ACCOUNT_EXISTS"
    async with database.unit_of_work() as work:
        with pytest.raises(Aborted) as check:
            await work.copy("account", ["id", "amount"], [(7, -1.0)])
    assert check.value.reason == "TOO_LITTLE"


async def test_constraint_of_a_partition_is_known_by_its_parents_name(database: Database) -> None:
    async with database.unit_of_work() as work:
        await work.execute(
            text(
                "CREATE TABLE sent (user_id text, CONSTRAINT sent_once UNIQUE (user_id)) "
                "PARTITION BY HASH (user_id)"
            )
        )
        await work.execute(
            text("CREATE TABLE sent_0 PARTITION OF sent FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
        )
        await work.execute(text("INSERT INTO sent VALUES ('u')"))
        await work.commit()
    database.map_constraints({"sent_once": lambda: AlreadyExists("sent already")})
    async with database.unit_of_work() as work:
        with pytest.raises(AlreadyExists, match="sent already"):
            await work.execute(text("INSERT INTO sent VALUES ('u')"))


async def test_unmapped_constraint_stays_a_driver_error(database: Database) -> None:
    database.map_constraints({"another": lambda: AlreadyExists("another")})
    async with database.unit_of_work() as work:
        with pytest.raises(DBAPIError, match="account_once"):
            await work.execute(text("INSERT INTO account (id) VALUES (1)"))


async def test_one_of_two_deadlocked_transactions_is_aborted(database: Database) -> None:
    both_hold_one = asyncio.Barrier(2)

    async def move(first: int, second: int) -> None:
        async with database.unit_of_work() as work:
            await work.execute(MOVE, {"id": first})
            await both_hold_one.wait()
            await work.execute(MOVE, {"id": second})
            await work.commit()

    ends = await asyncio.gather(move(1, 2), move(2, 1), return_exceptions=True)
    assert [type(end) for end in ends if end is not None] == [Aborted]


async def test_serialization_failure_is_aborted(database: Database) -> None:
    async with database.unit_of_work(isolation="SERIALIZABLE") as late:
        await late.rows(COUNT)
        async with database.unit_of_work() as early:
            await early.execute(MOVE, {"id": 1})
            await early.commit()
        with pytest.raises(Aborted):
            await late.execute(MOVE, {"id": 1})


async def test_statement_stops_at_the_deadline(database: Database) -> None:
    async with database.unit_of_work(timeout=timedelta(milliseconds=50)) as work:
        with pytest.raises(DeadlineExceeded):
            await work.execute(text("SELECT pg_sleep(30)"))
    calls.set_deadline(0.05)
    async with database.unit_of_work() as work:
        with pytest.raises(DeadlineExceeded):
            await work.execute(text("SELECT pg_sleep(30)"))
    calls.set_deadline(None)
    async with database.unit_of_work() as work:
        assert (await work.rows(text("SHOW statement_timeout")))[0][0] == "0"


async def test_a_statement_alone_is_kept_and_stops_at_the_deadline(database: Database) -> None:
    async with database.statement() as work:
        await work.execute(text("DELETE FROM account WHERE id = 1"))
    assert await count(database) == 1
    with pytest.raises(DeadlineExceeded):
        async with database.statement(timeout=timedelta(milliseconds=50)) as work:
            await work.execute(text("SELECT pg_sleep(30)"))
    calls.set_deadline(0.05)
    with pytest.raises(DeadlineExceeded):
        async with database.statement() as work:
            await work.execute(text("SELECT pg_sleep(30)"))
    calls.set_deadline(None)
    assert await count(database) == 1


async def test_cancelled_work_gives_its_connection_back(
    database_url: str, secret_key: SecretStr
) -> None:
    database = Database(service_url(database_url, "policy", secret_key), pool_size=1)
    sleeping = asyncio.Event()

    async def sleep() -> None:
        async with database.unit_of_work() as work:
            await work.rows(text("SELECT 1"))
            sleeping.set()
            await work.execute(text("SELECT pg_sleep(30)"))

    task = asyncio.create_task(sleep())
    await sleeping.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await database.ping()
    await database.close()


async def kill_all(admin: Database) -> None:
    async with admin.unit_of_work() as work:
        await work.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


async def test_lost_connection_is_unavailable_and_the_pool_recovers(
    database: Database, database_url: str
) -> None:
    admin = Database(database_url)
    async with database.unit_of_work() as work:
        await work.execute(MOVE, {"id": 1})
        await kill_all(admin)
        with pytest.raises(Unavailable):
            await work.execute(MOVE, {"id": 2})
    assert await count(database) == 2
    async with database.read(), database.read():
        pass
    await kill_all(admin)  # idle connections this time: nobody notices
    assert await asyncio.gather(*(count(database) for _ in range(8))) == [2] * 8
    await admin.close()


async def test_unreachable_server_and_exhausted_pool_are_unavailable(
    database: Database, database_url: str, secret_key: SecretStr
) -> None:
    nowhere = Database("postgresql://nobody@/none?host=/nowhere")
    with pytest.raises(Unavailable):
        await nowhere.ping()
    await nowhere.close()
    url = service_url(database_url, "policy", secret_key)
    small = Database(url, pool_size=1, pool_timeout=timedelta(milliseconds=20))
    async with small.unit_of_work():
        with pytest.raises(Unavailable):
            await small.ping()
    await small.ping()
    await small.close()
