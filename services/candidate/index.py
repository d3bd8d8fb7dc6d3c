"""The user index: all users, items, interactions and factors in memory."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from services.candidate.attributes import user_columns
from services.candidate.catalogue_store import QUERIES
from services.candidate.expressions import Columns
from services.candidate.sources import Catalogue, Factors, FitOptions, fit_factors
from services.runtime import metrics
from services.runtime.clock import Clock
from services.runtime.database import Database

LOAD_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True, eq=False, slots=True)
class IndexState:
    """One consistent state of the index."""

    catalogue: Catalogue
    factors: Factors
    columns: Columns
    """The users' attributes."""
    snapshot: str
    """The Postgres snapshot that it was read in."""
    load_time: datetime


class UserIndex:
    """Loads from Postgres at start and again when something has changed; a failed load leaves the
    last good state in place."""

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
        """The state with everything that is committed; loads again only if something changed."""
        async with self._lock:
            if self._state is None or await self._changed(self._state.snapshot):
                started = self._clock.monotonic()
                self._state = await self._load()
                self._seconds.observe(self._clock.monotonic() - started)
                self._users.set(len(self._state.catalogue.user_ids))
            return self._state

    async def _changed(self, snapshot: str) -> bool:
        async with self._database.read() as work:
            (row,) = await work.rows(QUERIES.changed_since, {"snapshot": snapshot})
        return bool(row[0])

    async def _load(self) -> IndexState:
        async with self._database.read(timeout=LOAD_TIMEOUT) as work:
            (row,) = await work.rows(QUERIES.current_snapshot)
            snapshot = str(row[0])
            users = await work.rows(QUERIES.load_users)
            items = await work.rows(QUERIES.load_items)
            pairs = await work.rows(QUERIES.load_interactions)

        def build() -> tuple[Catalogue, Factors, Columns]:
            catalogue = Catalogue.build(
                [row.user_id for row in users],
                [row.item_id for row in items],
                [row.user_id for row in pairs],
                [row.item_id for row in pairs],
                np.array([row.weight for row in pairs], np.float32),
                item_created=[row.create_time for row in items],
                item_live=[not row.deleted for row in items],
            )
            columns = user_columns(row.body for row in users)
            return catalogue, fit_factors(catalogue.weights, self._options), columns

        catalogue, factors, columns = await asyncio.to_thread(build)
        return IndexState(catalogue, factors, columns, snapshot, self._clock.now())
