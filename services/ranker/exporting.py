"""Training examples from the logs: decisions, the features they saw, and what came of them."""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, BinaryIO

import numpy as np

from services.ranker.catalogue import Catalogue
from services.ranker.features import (
    HEADS,
    Channel,
    EngagementKind,
    Features,
    concatenate,
    content_refs,
)
from services.ranker.feed import DROPPED
from services.ranker.labels import (
    Decided,
    Outcome,
    SessionTime,
    has_label,
    is_exported,
    labels,
    log_probability,
)
from services.ranker.rank_log import queries
from services.ranker.snapshots import SnapshotError, decode_event, decode_users
from services.ranker.training.log import Examples, LogWriter, no_event
from services.runtime.database import Database
from services.runtime.partitions import existing_days

PAGE_ROWS = 2000
CHUNK_BYTES = 1 << 20
DAY = timedelta(days=1)
LONGEST_WINDOW = max(head.window for head in HEADS)


class Exporter:
    """Writes training logs in the format of training.log."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._database = database
        self._catalogue = catalogue

    async def export(
        self, start: datetime, end: datetime, known_until: datetime | None
    ) -> AsyncIterator[tuple[bytes, int]]:
        """Bytes of one Parquet file with the decisions of [start, end), in chunks; with the last
        one the number of rows, with the others 0.

        `known_until`: labels whose window closes later are masked; None masks all. Decisions
        without a label, without a snapshot, or that the sampling leaves out are not in the file.
        """
        until = 0 if known_until is None else int(known_until.timestamp())
        with tempfile.TemporaryFile() as file:
            count = await self._write(file, start, end, until)
            file.seek(0)
            chunk = await asyncio.to_thread(file.read, CHUNK_BYTES)
            while chunk:
                following = await asyncio.to_thread(file.read, CHUNK_BYTES)
                yield chunk, 0 if following else count
                chunk = following

    async def _write(self, file: BinaryIO, start: datetime, end: datetime, until: int) -> int:
        contents = await self._catalogue.contents(np.zeros(0, np.int64))
        with LogWriter(file, contents) as writer:
            async for page in self._pages(start, end):
                examples = await asyncio.to_thread(_examples, page, until)
                if examples is not None:
                    features = {**examples.users, **examples.events}
                    writer.contents = await self._catalogue.contents(content_refs(features))
                    await asyncio.to_thread(writer.write, examples)
            return writer.row_count

    async def _pages(
        self, start: datetime, end: datetime
    ) -> AsyncIterator[list[tuple[Any, Decided]]]:
        """Decisions with their rows, a page at a time: by day, then by user."""
        for day in await self._days(start, end):
            after = ("", "")
            while True:
                keys = {"day": day, "start": start, "end": end, "most": PAGE_ROWS}
                keys |= {"user_id": after[0], "decision_id": after[1]}
                async with self._database.read() as work:
                    found = await work.rows(queries.decided, keys)
                    users = sorted({row.user_id for row in found})
                    interval = {
                        "first_day": day,
                        "last_day": day + LONGEST_WINDOW + DAY,
                        "user_ids": users,
                    }
                    sessions = await work.rows(queries.sessions_of, interval)
                if not found:
                    break
                yield _decided(found, sessions)
                after = (found[-1].user_id, found[-1].decision_id)

    async def _days(self, start: datetime, end: datetime) -> list[date]:
        """Days that decision ids of the interval begin with, as far as any are kept: a slot's day
        may be the day before or after the decision's."""
        first, last = start.astimezone(UTC).date(), end.astimezone(UTC).date()
        async with self._database.read() as work:
            kept = await existing_days(work, "decisions")
        return [day for day in kept if first <= day + DAY and day - DAY <= last]


def _decided(found: Sequence[Any], sessions: Sequence[Any]) -> list[tuple[Any, Decided]]:
    of_user: dict[str, list[SessionTime]] = defaultdict(list)
    for row in sessions:
        time = SessionTime(int(row.session_time.timestamp()), row.app_deleted)
        of_user[row.user_id].append(time)
    together = []
    for row in found:
        ends = list(zip(row.kinds or (), row.times or (), strict=True))
        outcomes = [
            Outcome(EngagementKind(kind), int(time.timestamp()))
            for kind, time in ends
            if kind != DROPPED
        ]
        decided = Decided(
            decision_id=row.decision_id,
            user_id=row.user_id,
            time=int(row.decide_time.timestamp()),
            channel=Channel(row.channel),
            push_disabled=row.push_disabled,
            dropped=any(kind == DROPPED for kind, _ in ends),
            outcomes=outcomes,
            sessions=of_user[row.user_id],
        )
        together.append((row, decided))
    return together


def _examples(page: Sequence[tuple[Any, Decided]], until: int) -> Examples | None:
    kept = []
    for row, decided in page:
        found = labels(decided, until)
        event = _event(row)
        if has_label(found) and event is not None and is_exported(decided):
            kept.append((row, decided, found, event))
    users, readable = _users([bytes(row.features) for row, *_ in kept])
    kept = [each for each, fine in zip(kept, readable, strict=True) if fine]
    if not kept:
        return None
    return Examples(
        decision_id=[decided.decision_id for _, decided, *_ in kept],
        user_id=[decided.user_id for _, decided, *_ in kept],
        time=np.array([decided.time for _, decided, *_ in kept], np.int64),
        channel=np.array([decided.channel for _, decided, *_ in kept], np.int8),
        log_probability=np.array([log_probability(each) for _, each, *_ in kept], np.float32),
        labels=np.stack([found for _, _, found, _ in kept]),
        users=users,
        events=concatenate([event for *_, event in kept]),
    )


def _event(row: Any) -> Features | None:
    """Features of the event sent; None when the snapshot has it not, or is of other features."""
    if not row.event_id:
        return no_event(1)
    if row.event_id not in row.event_ids:
        return None
    position = row.event_ids.index(row.event_id)
    try:
        return decode_event(bytes(row.events), position, len(row.event_ids))
    except SnapshotError:
        return None


def _users(snapshots: Sequence[bytes]) -> tuple[Features, list[bool]]:
    """User features of the snapshots that this version of the features can read."""
    parts, readable = [decode_users([])], []
    for data in snapshots:
        try:
            parts.append(decode_users([data]))
            readable.append(True)
        except SnapshotError:
            readable.append(False)
    return concatenate(parts), readable
