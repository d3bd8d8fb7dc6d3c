"""What the ranker keeps of shadow versions: which one shadows, and how it compares."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from services.ranker.comparison import Comparison
from services.ranker.features.vocabulary import HEADS, Head
from services.runtime.database import Database, load_queries
from services.runtime.hashing import unit_hash

queries = load_queries(Path(__file__).with_name("shadow_queries.sql"))


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that scores a share of the Rank calls beside the one that answers."""

    seq: int
    """Of its naming, ascending."""
    version: str
    """Empty: none shadows."""
    share: float

    def takes(self, rank_id: str) -> bool:
        """Whether the call with this rank id is in its share."""
        return bool(self.version) and unit_hash("ranker.shadow", rank_id) < self.share


NO_SHADOW = Shadow(0, "", 0.0)
Key: TypeAlias = tuple[Shadow, str, Head]
"""Shadow, the version that answered, head."""


@dataclass(frozen=True, slots=True)
class Compared:
    """How a version compared the last time that it was named."""

    version: str
    served_version: str
    head: Head
    sums: Comparison


class ShadowLog:
    """Reads and writes them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def current(self) -> Shadow:
        """The one that was named last."""
        async with self._database.read() as work:
            rows = await work.rows(queries.current)
        return Shadow(rows[0].seq, rows[0].version, rows[0].share) if rows else NO_SHADOW

    async def named(self, request_id: str) -> tuple[str, float] | None:
        """Version and share that the call with this request id named; None for a new id."""
        async with self._database.read() as work:
            rows = await work.rows(queries.by_request, {"request_id": request_id})
        return (rows[0].version, rows[0].share) if rows else None

    async def name(self, version: str, share: float, request_id: str, now: datetime) -> None:
        """Name a shadow; empty: none. A concurrent call with the same request id gives Aborted."""
        columns = {"request_id": request_id, "version": version, "share": share, "name_time": now}
        async with self._database.unit_of_work() as work:
            await work.execute(queries.insert_shadow, columns)
            await work.commit()

    async def add(self, sums: Mapping[Key, Comparison]) -> None:
        """Add to what is known."""
        columns = {
            "shadows": [shadow.seq for shadow, *_ in sums],
            "served_versions": [served for _, served, _ in sums],
            "heads": [HEADS.index(head) for *_, head in sums],
            "events": [each.events for each in sums.values()],
            "served": [each.served for each in sums.values()],
            "shadowed": [each.shadow for each in sums.values()],
            "difference": [each.difference for each in sums.values()],
            "calls": [each.calls for each in sums.values()],
            "correlation": [each.correlation for each in sums.values()],
        }
        async with self._database.unit_of_work() as work:
            await work.execute(queries.add_scores, columns)
            await work.commit()

    async def compared(self) -> list[Compared]:
        """All that is known, by version, version that answered, and head."""
        async with self._database.read() as work:
            rows = await work.rows(queries.scores)
        return [
            Compared(
                row.version,
                row.served_version,
                HEADS[row.head],
                Comparison(
                    row.events, row.served, row.shadowed, row.difference, row.calls, row.correlation
                ),
            )
            for row in rows
        ]
