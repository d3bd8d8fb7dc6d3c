"""How far the removal of users has come, and the pacer's own part of it."""

from collections.abc import Iterable
from datetime import datetime

from services.pacer.store.queries import QUERIES
from services.runtime.database import Database


class ErasureStore:
    """Erasures under way in Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, user_id: str) -> set[str]:
        """Note that a user is to be removed; the services that an earlier call finished."""
        async with self._database.unit_of_work() as work:
            rows = await work.rows(QUERIES.begin_erasure, {"user_id": user_id})
            await work.commit()
        return set(rows[0].done)

    async def note(self, user_id: str, done: Iterable[str], sweep_time: datetime | None) -> None:
        """Record which services are done; `sweep_time` is set once all are."""
        given = {"user_id": user_id, "done": sorted(done), "sweep_time": sweep_time}
        async with self._database.unit_of_work() as work:
            await work.execute(QUERIES.note_erased, given)
            await work.commit()

    async def erase_own(self, user_id: str, *, last: bool = False) -> None:
        """Remove the user's slots, messages and attempts; with `last` the erasure itself too."""
        async with self._database.unit_of_work() as work:
            for query in (QUERIES.erase_slots, QUERIES.erase_messages, QUERIES.erase_attempts):
                await work.execute(query, {"user_id": user_id})
            if last:
                await work.execute(QUERIES.end_erasure, {"user_id": user_id})
            await work.commit()

    async def pending(self) -> list[str]:
        """Some users whose removal is not complete."""
        async with self._database.read() as work:
            return [row.user_id for row in await work.rows(QUERIES.pending_erasures)]

    async def due_sweeps(self, now: datetime) -> list[str]:
        """Some users whose last sweep is due."""
        async with self._database.read() as work:
            return [row.user_id for row in await work.rows(QUERIES.due_sweeps, {"now": now})]
