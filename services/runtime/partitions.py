"""Day partitions of log tables, created when first written to and dropped when old.

The table is declared `PARTITION BY RANGE (day)` on a date (or UTC timestamptz) column and has no
default partition; the partition of 1 March 2026 is called `<table>_20260301`. All of it runs under
the service's own role, in the schema of its search path.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from weakref import WeakKeyDictionary

from psycopg import sql
from sqlalchemy import TextClause, text

from services.runtime.database import Database, UnitOfWork

LOCK_TIMEOUT = timedelta(seconds=2)
CERTAIN_AGE = timedelta(days=3)
"""How far behind a table's newest day a day may lie and still be known to be there: an older one
may have been dropped by another process since."""

_known: WeakKeyDictionary[Database, set[tuple[str, date]]] = WeakKeyDictionary()

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('partitions:' || current_schema, 0))")
_EXISTING = text(
    """
    SELECT child.relname FROM pg_catalog.pg_inherits AS link
    JOIN pg_catalog.pg_class AS child ON child.oid = link.inhrelid
    WHERE link.inhparent = CAST(:table AS regclass)
    """
)
_LOCK_TIMEOUT = text("SELECT set_config('lock_timeout', :milliseconds, true)")


async def ensure_day_partitions(work: UnitOfWork, table: str, days: Iterable[date]) -> None:
    """Create the partitions of these days that are missing, in the given unit of work.

    Recent days that this process has seen committed cost nothing. Concurrent callers wait for one
    another; writers to the table are not held up. Call it before the first write to the table in
    the unit of work, with all the days it will touch.
    """
    known = _known.setdefault(work.database, set())
    wanted = _uncertain(work.database, table, days)
    if not wanted:
        return
    if await _missing(work, wanted):
        await work.execute(_LOCK)
        for name, day in await _missing(work, wanted):
            await _create(work, name, day)
    work.after_commit(lambda: known.update(wanted))


async def provide_day_partitions(database: Database, table: str, days: Iterable[date]) -> None:
    """The same in a transaction of its own, if there is anything to do: for writers that need none
    but for this."""
    if wanted := {day for _, day in _uncertain(database, table, days)}:
        async with database.unit_of_work() as work:
            await ensure_day_partitions(work, table, wanted)
            await work.commit()


async def drop_partitions_before(work: UnitOfWork, table: str, day: date) -> list[date]:
    """Drop the partitions of earlier days with all their rows; returns the days, oldest first.

    Needs the table for itself for a moment: raises Aborted when that takes more than two seconds.
    """
    milliseconds = str(int(LOCK_TIMEOUT.total_seconds() * 1000))
    await work.execute(_LOCK_TIMEOUT, {"milliseconds": milliseconds})
    await work.execute(_LOCK)
    old = [at for at in await existing_days(work, table) if at < day]
    if old:
        names = sql.SQL(", ").join(sql.Identifier(partition(table, at)) for at in old)
        await work.execute(_literal(sql.SQL("DROP TABLE {}").format(names).as_string()))
        known = _known.setdefault(work.database, set())
        work.after_commit(lambda: known.difference_update((table, at) for at in old))
    return old


async def drop_days_before(database: Database, tables: Iterable[str], day: date) -> None:
    """Drop the partitions of earlier days of all these tables, each in a transaction of its own."""
    for table in tables:
        async with database.unit_of_work() as work:
            await drop_partitions_before(work, table, day)
            await work.commit()


async def existing_days(work: UnitOfWork, table: str) -> list[date]:
    """Days that have a partition, oldest first."""
    found = (_day_of(table, name) for name in await _all(work, table))
    return sorted(day for day in found if day is not None)


def first_kept_day(now: datetime, retention: timedelta) -> date:
    """First UTC day of which something is younger than the retention: days before it may go."""
    return (now - retention).astimezone(UTC).date()


def partition(table: str, day: date) -> str:
    """Name of a table's partition for a day."""
    return f"{table}_{day:%Y%m%d}"


def _uncertain(database: Database, table: str, days: Iterable[date]) -> set[tuple[str, date]]:
    """Of the partitions of these days those that this process can't be certain of."""
    seen = {day for name, day in _known.get(database, ()) if name == table}
    oldest = max(seen, default=date.min + CERTAIN_AGE) - CERTAIN_AGE
    return {(table, day) for day in days if day not in seen or day < oldest}


async def _missing(work: UnitOfWork, wanted: set[tuple[str, date]]) -> list[tuple[str, date]]:
    (table,) = {table for table, _ in wanted}
    existing = await _all(work, table)
    return sorted(key for key in wanted if partition(*key) not in existing)


async def _all(work: UnitOfWork, table: str) -> set[str]:
    return {name for (name,) in await work.rows(_EXISTING, {"table": table})}


async def _create(work: UnitOfWork, table: str, day: date) -> None:
    """Make a table of the same shape, then attach it.

    `CREATE TABLE … PARTITION OF` would lock the parent against everyone; attaching lets readers
    and writers go on. It adds the parent's keys and foreign keys.
    """
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    parts = {
        "partition": sql.Identifier(partition(table, day)),
        "table": sql.Identifier(table),
        "first": sql.Literal(start.isoformat()),
        "past": sql.Literal((start + timedelta(days=1)).isoformat()),
    }
    create = sql.SQL(
        "CREATE TABLE {partition} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS "
        "INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION)"
    )
    attach = sql.SQL(
        "ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ({first}) TO ({past})"
    )
    for statement in (create, attach):
        await work.execute(_literal(statement.format(**parts).as_string()))


def _day_of(table: str, name: str) -> date | None:
    suffix = name.removeprefix(f"{table}_")
    if suffix == name or len(suffix) != 8 or not suffix.isdigit():
        return None
    return date(int(suffix[:4]), int(suffix[4:6]), int(suffix[6:]))


def _literal(statement: str) -> TextClause:
    return text(statement.replace(":", r"\:"))  # a time's colon is no parameter
