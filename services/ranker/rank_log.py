"""What the ranker keeps by day: snapshots, decisions, what became of them; and promotions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from services.runtime import binary_rows
from services.runtime.database import Database, UnitOfWork, load_queries
from services.runtime.gathering import Gathered
from services.runtime.partitions import (
    drop_days_before,
    existing_days,
    partition,
    provide_day_partitions,
)

queries = load_queries(Path(__file__).with_name("log_queries.sql"))

DAY_TABLES = ("snapshots", "decisions", "outcomes", "sessions")
_SNAPSHOT_COLUMNS = (
    "day", "rank_id", "user_id", "snapshot_time", "model_version", "features", "event_ids", "events"
)  # fmt: skip

KEPT_TOGETHER = 64
"""Calls whose snapshots are stored by one statement, at most."""


@dataclass(frozen=True, slots=True)
class UserSnapshot:
    """One user's part of a Rank call."""

    user_id: str
    model_version: str
    features: bytes
    event_ids: Sequence[str]
    events: bytes


@dataclass(frozen=True, slots=True)
class KeptSnapshot:
    """A snapshot as it was read back."""

    time: datetime
    model_version: str
    features: bytes


@dataclass(frozen=True, slots=True)
class Scored:
    """What a Rank call scored for one user."""

    features: bytes
    event_count: int
    events: bytes


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A call to be stored."""

    rank_id: str
    time: datetime
    snapshots: Sequence[UserSnapshot]

    @property
    def day(self) -> date:
        """Which the rank id begins with."""
        return self.time.astimezone(UTC).date()


class RankLog:
    """Reads and writes the logs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept = Gathered(self._keep, KEPT_TOGETHER)

    async def keep(self, rank_id: str, now: datetime, snapshots: Sequence[UserSnapshot]) -> None:
        """Store the snapshots of one Rank call; those of concurrent ones come along."""
        if snapshots:
            await self._kept.do(_Ranked(rank_id, now, snapshots))

    async def _keep(self, calls: Sequence[_Ranked]) -> list[None]:
        await provide_day_partitions(self._database, "snapshots", {call.day for call in calls})
        async with self._database.statement() as work:
            await work.copy_binary("snapshots", _SNAPSHOT_COLUMNS, _rows(calls))
        return [None] * len(calls)

    async def snapshot(self, rank_id: str, user_id: str) -> KeptSnapshot | None:
        """The snapshot of a Rank call for a user; None when there is none (any more)."""
        day = day_of(rank_id)
        if day is None:
            return None
        keys = {"day": day, "user_id": user_id, "rank_id": rank_id}
        async with self._database.read() as work:
            rows = await work.rows(queries.find_snapshot, keys)
        for row in rows:
            return KeptSnapshot(row.snapshot_time, row.model_version, bytes(row.features))
        return None

    async def latest(self, most: int) -> list[Scored]:
        """What was scored last, for so many users at most, on the newest day."""
        async with self._database.read() as work:
            days = await existing_days(work, "snapshots")
            if not days:
                return []
            keys = {"day": days[-1], "partition": partition("snapshots", days[-1]), "most": most}
            found = await work.rows(queries.latest_snapshots, keys)
        return [Scored(bytes(row.features), row.event_count, bytes(row.events)) for row in found]

    async def drop_before(self, day: date) -> None:
        """Drop the days before `day` of all logs."""
        await drop_days_before(self._database, DAY_TABLES, day)

    async def promoted_version(self) -> str | None:
        """The promoted model version; None before the first promotion."""
        async with self._database.read() as work:
            rows = await work.rows(queries.promoted)
        return rows[0].version if rows else None

    async def promotion(self, request_id: str) -> str | None:
        """The version that the call with this request id promoted; None for a new id."""
        async with self._database.read() as work:
            rows = await work.rows(queries.promotion_by_request, {"request_id": request_id})
        return rows[0].version if rows else None

    async def promote(self, version: str, request_id: str, now: datetime) -> None:
        """Record a promotion. A concurrent call with the same request id gives Aborted."""
        columns = {"request_id": request_id, "version": version, "promote_time": now}
        async with self._database.unit_of_work() as work:
            await work.execute(queries.insert_promotion, columns)
            await work.commit()


def _rows(calls: Sequence[_Ranked]) -> bytes:
    """The snapshots of calls, as COPY reads them."""
    kept = [(call, each) for call in calls for each in call.snapshots]
    return binary_rows.rows(
        len(_SNAPSHOT_COLUMNS),
        [
            [binary_rows.day(call.day) for call, _ in kept],
            binary_rows.texts(call.rank_id for call, _ in kept),
            binary_rows.texts(each.user_id for _, each in kept),
            [binary_rows.time(call.time) for call, _ in kept],
            binary_rows.texts(each.model_version for _, each in kept),
            binary_rows.binaries(each.features for _, each in kept),
            [binary_rows.text_array(tuple(each.event_ids)) for _, each in kept],
            binary_rows.binaries(each.events for _, each in kept),
        ],
    )


async def erase(work: UnitOfWork, user_id: str) -> int:
    """Delete all rows of a user in the logs; returns how many."""
    statements = (
        queries.erase_snapshots,
        queries.erase_decisions,
        queries.erase_outcomes,
        queries.erase_sessions,
    )
    removed = 0
    for statement in statements:
        removed += (await work.execute(statement, {"user_id": user_id})).rowcount
    return removed


def day_of(identifier: str) -> date | None:
    """The day an id begins with (`20260105.…`); None for an id without one."""
    text = identifier.partition(".")[0]
    if len(text) != 8 or not text.isdecimal():
        return None
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None
