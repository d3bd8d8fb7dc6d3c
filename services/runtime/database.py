"""Postgres for the services: pooled connections, units of work, named queries.

A unit of work is one transaction on one connection. It rolls back unless told to commit.
What Postgres refuses becomes a domain error here, so that no handler knows the driver.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import psycopg
from psycopg import errors as postgres
from psycopg import sql
from psycopg.abc import PQGen
from psycopg.errors import Diagnostic
from sqlalchemy import CursorResult, Executable, Row, TextClause, event, make_url, text
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncResult, create_async_engine

from services.runtime import calls
from services.runtime.errors import Aborted, DeadlineExceeded, DomainError, Unavailable

DRIVER = "postgresql+psycopg"
Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Statement = tuple[Executable, Mapping[str, Any]]
"""With its parameters."""
Isolation = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
ConstraintErrors = Mapping[str, Callable[[], DomainError]]
Result = TypeVar("Result")
COPIED_BYTES = 2**18
"""Of rows taken at a time: some milliseconds of work between other tasks."""

_CONFLICTS = (
    postgres.SerializationFailure,
    postgres.DeadlockDetected,
    postgres.LockNotAvailable,
)
_UNREACHABLE_CLASSES = ("08", "53", "57")  # connection, resources, operator intervention

_TOO_LATE = "the database did not answer within the deadline"
_SAVEPOINT = "SAVEPOINT copying"
_BACK_TO_SAVEPOINT = "ROLLBACK TO SAVEPOINT copying"

# A unique key of a partitioned table is reported under the name of the partition's own key.
_ROOT_CONSTRAINT = text(
    """
    WITH RECURSIVE line AS (
        SELECT conname, conparentid FROM pg_catalog.pg_constraint
        WHERE conname = :name AND conrelid
            = CAST(format('%I.%I', CAST(:schema AS text), CAST(:table AS text)) AS regclass)
        UNION ALL
        SELECT parent.conname, parent.conparentid
        FROM pg_catalog.pg_constraint AS parent JOIN line ON parent.oid = line.conparentid
    )
    SELECT conname FROM line WHERE conparentid = 0
    """
)


class Database:
    """Connections of one role to one database.

    `url` is a libpq URL (`postgresql://…`) with the role's password. At most `pool_size`
    connections are open; who waits longer than `pool_timeout` for one gets Unavailable.
    `constraints` names the domain error of each constraint that a caller may run into.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        pool_timeout: timedelta = timedelta(seconds=10),
        application_name: str = "heliograph",
        constraints: ConstraintErrors | None = None,
    ) -> None:
        self._engine = create_async_engine(
            make_url(url).set(drivername=DRIVER),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout.total_seconds(),
            pool_use_lifo=True,
            isolation_level="AUTOCOMMIT",  # `_open` begins transactions
            connect_args={"application_name": application_name, "connect_timeout": 5},
        )
        event.listen(self._engine.sync_engine, "checkout", _refuse_dead_connection)
        self.constraints = dict(constraints or {})

    def map_constraints(self, constraints: ConstraintErrors) -> None:
        """Add domain errors for violated constraints, by constraint name.

        A constraint of a partitioned table is known by the name at the parent.
        """
        self.constraints.update(constraints)

    @asynccontextmanager
    async def unit_of_work(
        self, *, isolation: Isolation | None = None, timeout: timedelta | None = None
    ) -> AsyncIterator[UnitOfWork]:
        """Open a transaction; it rolls back unless `await work.commit()` was called.

        Isolation is READ COMMITTED by default. A statement may run for `timeout`, by default what
        is left of the incoming call's deadline. Raises Unavailable, Aborted, DeadlineExceeded and
        the mapped domain errors.
        """
        async with self._open(timeout, isolation=isolation) as work:
            yield work

    @asynccontextmanager
    async def read(self, *, timeout: timedelta | None = None) -> AsyncIterator[UnitOfWork]:
        """Open a read-only transaction that sees one state of the database throughout."""
        async with self._open(timeout, isolation="REPEATABLE READ", readonly=True) as work:
            yield work

    @asynccontextmanager
    async def statement(self, *, timeout: timedelta | None = None) -> AsyncIterator[UnitOfWork]:
        """Open a connection for one statement, or COPY, that is a transaction of its own: nothing
        is begun or committed, which takes one round trip in place of three. It may run for
        `timeout`, by default as in `unit_of_work`. Raises as that does.
        """
        left = self._left(timeout)
        async with self._connected() as connection:
            try:
                async with asyncio.timeout(left):
                    yield UnitOfWork(self, connection)
            except TimeoutError as error:
                raise DeadlineExceeded(_TOO_LATE) from error

    async def ping(self) -> None:
        """Ask the server for a sign of life. Raises Unavailable."""
        async with self._open(timedelta(seconds=5)):
            pass

    async def close(self) -> None:
        """Close the pool; connections in use close when they come back."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _open(
        self,
        timeout: timedelta | None,
        *,
        isolation: Isolation | None = None,
        readonly: bool = False,
    ) -> AsyncIterator[UnitOfWork]:
        left = self._left(timeout)
        async with self._connected() as connection:
            work = UnitOfWork(self, connection)
            await work.begin(isolation, readonly, left)
            yield work

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        try:
            connection = await self._engine.connect()
        except (DBAPIError, PoolTimeout, OSError) as error:
            raise Unavailable("the database can't be reached", reason="DATABASE") from error
        try:
            yield connection
        finally:
            await connection.close()

    @staticmethod
    def _left(timeout: timedelta | None) -> float | None:
        return calls.remaining() if timeout is None else timeout.total_seconds()


class UnitOfWork:
    """One open transaction, or the connection of one statement."""

    def __init__(self, database: Database, connection: AsyncConnection) -> None:
        self.database = database
        self._connection = connection
        self._after_commit: list[Callable[[], None]] = []
        self._ended = False

    async def begin(self, isolation: Isolation | None, readonly: bool, left: float | None) -> None:
        """Open the transaction, with the time limit of its statements in seconds: the driver, left
        to itself, takes two round trips for it."""
        statement = "BEGIN"
        if isolation is not None:
            statement += f" ISOLATION LEVEL {isolation}"
        if readonly:
            statement += " READ ONLY"
        if left is not None:
            milliseconds = max(1, int(left * 1000))  # 0 would mean no limit
            statement += f"; SET LOCAL statement_timeout = {milliseconds}"
        await self._translated(lambda: self._driver.execute(statement.encode()))

    async def execute(
        self, query: Executable, params: Parameters | None = None
    ) -> CursorResult[Any]:
        """Run one statement; with a list of parameter sets, once for each in one batch."""
        return await self._translated(lambda: self._connection.execute(query, params or None))

    async def execute_all(self, statements: Sequence[Statement]) -> None:
        """Run statements in their order whose results nobody needs, in one round trip."""
        if statements:
            await self._translated(lambda: self._execute_all(statements))

    async def rows(
        self, query: Executable, params: Mapping[str, Any] | None = None
    ) -> list[Row[Any]]:
        """Run a query and fetch all its rows."""
        return list((await self.execute(query, params)).fetchall())

    async def stream(
        self, query: Executable, params: Mapping[str, Any], count: int
    ) -> AsyncIterator[Sequence[Row[Any]]]:
        """Run a query and fetch its rows `count` at a time, without ever holding all of them."""

        async def begin() -> AsyncResult[Any]:
            return await self._connection.stream(
                query, params, execution_options={"yield_per": count}
            )

        result = await self._translated(begin)
        parts = result.partitions()
        while True:
            part = await self._translated(lambda: anext(parts, None))
            if part is None:
                return
            yield part

    async def copy_out(self, query: TextClause, params: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """The rows of a query as CSV in blocks of bytes, which may end anywhere: the fastest way to
        read many."""
        literal = query.bindparams(**params).compile(
            dialect=self._connection.dialect, compile_kwargs={"literal_binds": True}
        )
        driver = self._driver
        statement = f"COPY ({literal}) TO STDOUT (FORMAT csv)"
        async with driver.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            while block := await self._translated(lambda: driver.wait(_copied_rows(copy))):
                yield block

    async def copy(
        self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> int:
        """Stream rows into a table with COPY, in this transaction; returns how many.

        The fastest way to insert; it can't skip duplicates. Columns not named take their defaults.
        """

        async def write(copy: psycopg.AsyncCopy) -> None:
            for row in rows:
                await copy.write_row(row)

        return await self._translated(lambda: self._copy(table, columns, write))

    async def copy_binary(self, table: str, columns: Sequence[str], rows: bytes) -> None:
        """The same with all that COPY reads in its binary format, as `binary_rows` makes it: the
        driver, which looks at each value for its type, is too slow for many, and the server reads
        text at two thirds of the speed."""
        await self._translated(
            lambda: self._copy(table, columns, lambda copy: copy.write(rows), form="binary")
        )

    async def copy_new(self, table: str, columns: Sequence[str], rows: bytes) -> bool:
        """Insert rows with COPY, all or none: none and False when one of them breaks a unique key,
        after which the transaction goes on as if nothing had been tried. `rows` as in
        `copy_binary`.
        """
        return await self._translated(lambda: self._copy_new(table, columns, rows))

    async def commit(self) -> None:
        """Make the work permanent. A unit of work commits once and does nothing after."""
        await self._translated(self._driver.commit)
        self._ended = True
        for run in self._after_commit:
            run()

    def after_commit(self, run: Callable[[], None]) -> None:
        """Have `run` called once the transaction is committed, never when it rolls back."""
        self._after_commit.append(run)

    async def _execute_all(self, statements: Sequence[Statement]) -> None:
        async with self._driver.pipeline():
            for query, params in statements:
                await self._connection.execute(query, params)

    async def _copy_new(self, table: str, columns: Sequence[str], rows: bytes) -> bool:
        driver = self._driver
        await driver.execute(_SAVEPOINT)
        try:
            await self._copy(table, columns, lambda copy: copy.write(rows), form="binary")
        except postgres.UniqueViolation:
            await driver.execute(_BACK_TO_SAVEPOINT)
            return False
        return True

    async def _copy(
        self,
        table: str,
        columns: Sequence[str],
        write: Callable[[psycopg.AsyncCopy], Awaitable[None]],
        form: Literal["text", "binary"] = "text",
    ) -> int:
        driver = self._driver
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT {})").format(
            sql.Identifier(*table.split(".")),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(form),
        )
        async with driver.cursor() as cursor:
            async with cursor.copy(statement) as copy:
                await write(copy)
            return cursor.rowcount

    @property
    def _driver(self) -> psycopg.AsyncConnection[Any]:
        sync = self._connection.sync_connection
        driver = None if sync is None else sync.connection.driver_connection
        assert isinstance(driver, psycopg.AsyncConnection)
        return driver

    async def _translated(self, operation: Callable[[], Awaitable[Result]]) -> Result:
        if self._ended:
            raise RuntimeError("this unit of work has ended; open another one")
        try:
            return await operation()
        except (DBAPIError, psycopg.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            known = await self._domain_error(cause)
            if known is None:
                raise
            raise known from error

    async def _domain_error(self, cause: BaseException | None) -> DomainError | None:
        if isinstance(cause, _CONFLICTS):
            return Aborted("a concurrent change won; repeat the call")
        if isinstance(cause, postgres.QueryCanceled):
            return DeadlineExceeded(_TOO_LATE)
        if isinstance(cause, psycopg.IntegrityError):
            return await self._violation(cause)
        if isinstance(cause, (psycopg.OperationalError, psycopg.InterfaceError)):
            state = cause.sqlstate
            if state is None or state[:2] in _UNREACHABLE_CLASSES:
                return Unavailable("the database can't be reached", reason="DATABASE")
        return None

    async def _violation(self, cause: psycopg.IntegrityError) -> DomainError | None:
        name = cause.diag.constraint_name
        constraints = self.database.constraints
        if not constraints or name is None:
            return None
        if name not in constraints:
            name = await self._root_constraint(name, cause.diag)
        factory = constraints.get(name)
        return None if factory is None else factory()

    async def _root_constraint(self, name: str, diagnostic: Diagnostic) -> str:
        """Name, at the parent table, of a partition's constraint. Ends the failed transaction."""
        self._ended = True
        await self._driver.rollback()
        where = {"schema": diagnostic.schema_name, "table": diagnostic.table_name}
        found = await self._connection.execute(_ROOT_CONSTRAINT, {"name": name} | where)
        return str(found.scalar_one_or_none() or name)


def _copied_rows(copy: psycopg.AsyncCopy) -> PQGen[bytes]:
    """Some of the rows that a COPY sends; none at the end."""
    # By the driver's private generator, as 200,000 rows of three columns take more than twice as
    # long by its public `read`, which awaits each of them (psycopg 3.3.9, as CSV 2.3 times, binary
    # 2.4 times).
    rows = bytearray()
    while len(rows) < COPIED_BYTES and (row := (yield from copy._read_gen())):
        rows += row
    return bytes(rows)


class Queries:
    """The statements of one `queries.sql`, by name: `queries.insert_events`."""

    def __init__(self, statements: Mapping[str, TextClause]) -> None:
        self._statements = dict(statements)

    def __getattr__(self, name: str) -> TextClause:
        # Not `self._statements`: a copy asks for attributes before it has any.
        statements: dict[str, TextClause] = self.__dict__.get("_statements", {})
        try:
            return statements[name]
        except KeyError:
            raise AttributeError(f"queries.sql has no query named {name!r}") from None


def load_queries(path: Path) -> Queries:
    """Read named statements: each begins with a line `-- name: insert_events`.

    Comment lines describe and are left out of the statement. Raises ValueError for a statement
    without name, a name without statement and a name used twice.
    """
    blocks: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        bare = line.strip()
        if bare.startswith("-- name:"):
            name = bare.removeprefix("-- name:").strip()
            if not name.isidentifier() or name in blocks:
                raise ValueError(f"{path}:{number}: {name!r} is no name or is used twice")
            lines = blocks[name] = []
        elif bare and not bare.startswith("--"):
            if lines is None:
                raise ValueError(f"{path}:{number}: a statement before the first '-- name:'")
            lines.append(line)
    empty = [name for name, block in blocks.items() if not block]
    if empty:
        raise ValueError(f"{path}: no statement under {', '.join(empty)}")
    return Queries({name: text("\n".join(block)) for name, block in blocks.items()})


def _refuse_dead_connection(connection: Any, _record: object, _proxy: object) -> None:
    """Keep the pool from handing out a connection that the server has closed.

    An idle connection has nothing to read, except when the server said good-bye. Looking is free,
    where a ping costs a round trip.
    """
    driver = connection.driver_connection
    if driver.closed:
        raise InvalidatePoolError("connection closed")
    waiting = select.poll()
    waiting.register(driver.pgconn.socket, select.POLLIN)
    if waiting.poll(0):
        raise InvalidatePoolError("connection closed by the server")
