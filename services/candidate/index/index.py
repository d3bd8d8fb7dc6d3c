"""The user index: all users, items, interactions and factors in memory."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.candidate.expressions import Columns
from services.candidate.index import reading
from services.candidate.index.tables import Tables
from services.candidate.sources import Catalogue, Factors, FitOptions, fit_factors
from services.runtime import metrics
from services.runtime.clock import Clock
from services.runtime.database import Database

LOAD_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True, eq=False, slots=True)
class IndexState:
    """One consistent state of the index."""

    tables: Tables
    catalogue: Catalogue
    factors: Factors
    snapshot: str
    """The Postgres snapshot that it was read in."""
    load_time: datetime

    @property
    def columns(self) -> Columns:
        """The users' attributes."""
        return self.tables.users.columns


class UserIndex:
    """Reads everything from Postgres at start, and then what has changed; a failed reading leaves
    the last good state in place."""

    def __init__(self, database: Database, clock: Clock, options: FitOptions) -> None:
        self._database = database
        self._clock = clock
        self._options = options
        self._lock = asyncio.Lock()
        self._state: IndexState | None = None
        self._seconds = metrics.histogram(
            "candidate", "index_load", "seconds", "Time to load and fit the user index."
        )
        self._users = metrics.gauge("candidate", "index_users", "", "Users in the user index.")

    @property
    def state(self) -> IndexState:
        """The current state; `refresh` has to have run before."""
        if self._state is None:
            raise RuntimeError("the user index has not been loaded")
        return self._state

    async def refresh(self) -> IndexState:
        """The state with everything that is committed; reads only what has changed."""
        async with self._lock:
            if self._state is None or await self._changed(self._state.snapshot):
                started = self._clock.monotonic()
                self._state = await self._next(self._state)
                self._seconds.observe(self._clock.monotonic() - started)
                self._users.set(len(self._state.catalogue.user_ids))
            return self._state

    async def _changed(self, snapshot: str) -> bool:
        async with self._database.read() as work:
            return await reading.changed_since(work, snapshot)

    async def _next(self, state: IndexState | None) -> IndexState:
        known, since = Tables.empty(), reading.BEGINNING
        if state is not None and not state.columns.outgrown:
            known, since = state.tables, state.snapshot
        async with self._database.read(timeout=LOAD_TIMEOUT) as work:
            snapshot = await reading.current_snapshot(work)
            tables = await reading.read_changes(work, known, since)

        def build() -> tuple[Catalogue, Factors]:
            catalogue = tables.catalogue()
            return catalogue, fit_factors(catalogue.weights, self._options)

        catalogue, factors = await asyncio.to_thread(build)
        return IndexState(tables, catalogue, factors, snapshot, self._clock.now())
