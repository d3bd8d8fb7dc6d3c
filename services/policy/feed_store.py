"""The feed: an ordered log, appended to by transactions and read by cursor.

An entry's place is (xid, seq): the transaction that wrote it, and a sequence within. Readers see
only transactions older than every open one, so a cursor never passes an entry that commits later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from services.policy.feed_entries import Entry
from services.runtime.database import Database, UnitOfWork, load_queries
from services.runtime.errors import FieldError, OutOfRange
from services.runtime.partitions import ensure_day_partitions

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

    Raises OutOfRange for a cursor that no feed can have given.
    """
    xid, seq = _position(cursor)
    async with database.read() as work:
        asked = {"xid": xid, "seq": seq, "limit": limit + 1}
        rows = await work.rows(_queries.read_entries, asked)
    kept = rows[:limit]
    if kept:
        cursor = f"{kept[-1].xid}:{kept[-1].seq}"
    return Page([bytes(row.entry) for row in kept], cursor, len(rows) > limit)


def _position(cursor: str) -> tuple[int, int]:
    if not cursor:
        return 0, 0
    xid, seq = (int(part) for part in cursor.split(":"))
    if max(xid, seq) > _MOST_XID:
        problem = "is not a cursor of this feed"
        raise OutOfRange(
            f"cursor {problem}",
            reason="CURSOR_OUT_OF_RANGE",
            fields=[FieldError("cursor", problem)],
        )
    return xid, seq
