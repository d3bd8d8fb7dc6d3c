"""The feed: an ordered log, appended to by transactions and read by cursor.

An entry's place is (xid, seq): the transaction that wrote it, and a sequence within. Readers see
only transactions older than every open one, so a cursor never passes an entry that commits later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from services.policy.feed_entries import Entry
from services.runtime.database import Database, UnitOfWork, load_queries
from services.runtime.errors import FieldError, OutOfRange
from services.runtime.partitions import drop_partitions_before, ensure_day_partitions

DEFAULT_LIMIT = 1000
_MOST_XID = (1 << 63) - 1

_queries = load_queries(Path(__file__).with_name("feed.sql"))


@dataclass(frozen=True, slots=True)
class Page:
    """What one read found: entries (FeedEntry messages as bytes) and where to read on."""

    entries: list[bytes]
    cursor: str
    more: bool


async def append(work: UnitOfWork, now: datetime, entries: Sequence[Entry]) -> None:
    """Add entries in this order; they are seen when the unit of work has committed."""
    if not entries:
        return
    day = now.astimezone(UTC).date()
    await ensure_day_partitions(work, "feed", [day])
    columns = {
        "day": day,
        "user_ids": [entry.user_id for entry in entries],
        "entries": [entry.message for entry in entries],
    }
    await work.execute(_queries.append_entries, columns)


async def read(database: Database, cursor: str, limit: int) -> Page:
    """Up to `limit` entries after `cursor`; an empty cursor reads from the oldest kept.

    Raises OutOfRange for a cursor after which entries were dropped, and for one that this feed
    can't have given.
    """
    position = _position(cursor)
    async with database.unit_of_work() as work:
        rows = await work.rows(_queries.read_entries, position | {"limit": limit + 1})
        if cursor:
            await _check(work, position)
    kept = rows[:limit]
    if kept:
        cursor = f"{kept[-1].xid}:{kept[-1].seq}"
    return Page([bytes(row.entry) for row in kept], cursor, len(rows) > limit)


async def drop_before(work: UnitOfWork, day: date) -> None:
    """Drop the entries of earlier days; from then on cursors before them are refused."""
    await work.execute(_queries.raise_horizon, {"day": day})
    await drop_partitions_before(work, "feed", day)


async def _check(work: UnitOfWork, position: dict[str, int]) -> None:
    """Refuse a cursor after which something is missing. Looks after the entries were read, and sees
    what committed until then: days dropped meanwhile are noticed, those read can't be dropped."""
    (found,) = await work.rows(_queries.check_cursor, position)
    if found.expired:
        raise _refused("CURSOR_EXPIRED", "is older than the entries kept; read from the start")
    if found.ahead:
        raise _refused("CURSOR_OUT_OF_RANGE", "lies in the future; read from the start")


def _position(cursor: str) -> dict[str, int]:
    xid, seq = (int(part) for part in (cursor or "0:0").split(":"))
    if max(xid, seq) > _MOST_XID:
        raise _refused("CURSOR_OUT_OF_RANGE", "is not a cursor of this feed")
    return {"xid": xid, "seq": seq}


def _refused(reason: str, problem: str) -> OutOfRange:
    return OutOfRange(f"cursor {problem}", reason=reason, fields=[FieldError("cursor", problem)])
