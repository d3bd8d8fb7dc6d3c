"""The user index: all users, items and interactions in memory, and the model fitted on them."""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from services.candidate.attributes import with_facts
from services.candidate.expressions import Columns
from services.candidate.index import reading
from services.candidate.index.entities import Placement
from services.candidate.index.fitting import fit_model
from services.candidate.index.model_folder import ModelFolder
from services.candidate.index.part import Part
from services.candidate.index.prediction import Prediction, Unfitted
from services.candidate.index.share import ALL, Share
from services.candidate.index.tables import Tables
from services.candidate.models import CandidateModel, Side
from services.candidate.sources import Catalogue, Relations
from services.runtime import metrics
from services.runtime.clock import Clock
from services.runtime.database import Database
from services.runtime.settings import ConfigurationError

LOAD_TIMEOUT = timedelta(minutes=5)
SMALL = 20_000
"""Interactions up to which a fit takes about a second, so that a refresh may include it."""
GROWTH = 1.2
"""By how much the interactions have to grow for the model to be out of date."""


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How the index is fitted."""

    refit_interval: timedelta
    """How old a model may become while there is something new."""
    seed: int
    threads: int
    """Of the linear algebra."""


@dataclass(frozen=True, slots=True)
class Fit:
    """When and on how much a model was fitted."""

    time: datetime
    interactions: int


@dataclass(frozen=True, eq=False, slots=True)
class IndexState:
    """One consistent state of the index."""

    tables: Tables
    catalogue: Catalogue
    relations: Relations
    prediction: Prediction | Unfitted
    fit: Fit | None
    """None as long as nothing is liked."""
    user_columns: Columns
    """The users' attributes and facts."""
    item_columns: Columns
    """The items' attributes and facts."""
    snapshot: str
    """The Postgres snapshot that it was read in."""


class IndexView(Protocol):
    """What answers are made from: a state of the index, and how to have a later one."""

    @property
    def state(self) -> IndexState:
        """The current state."""

    async def refresh(self) -> IndexState:
        """The state with everything that is committed."""

    async def fitted(self) -> IndexState:
        """The same with a model that is up to date."""


class UserIndex:
    """Reads everything from Postgres at start, and then what has changed; a failed reading leaves
    the last good state in place.

    The model is fitted anew when it has become out of date, while the one before goes on serving.
    Meanwhile interactions count for what a user has seen and likes; only whose interactions are all
    newer than the model is taken for one without any when users are ranked.

    A shard holds some of the users, all items, and the interactions and ties of its users. It never
    fits: what it knows is no sample of all users, and shards have to serve one model.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        options: IndexOptions,
        folder: ModelFolder | None = None,
        share: Share | None = None,
    ) -> None:
        """`folder`: of a model to serve; None, or as long as it holds no good one: fit one.
        `share`: None: not a shard; a shard needs a folder with a good model."""
        self._shard = share is not None
        self._share = share or ALL
        self._folder = folder
        self._from_folder = False
        self._database = database
        self._clock = clock
        self._options = options
        self._reading = asyncio.Lock()
        self._fitting = asyncio.Lock()
        self._state: IndexState | None = None
        self._seconds = metrics.histogram(
            "candidate", "index_load", "seconds", "Time to read what is new into the user index."
        )
        self._fit_seconds = metrics.histogram(
            "candidate", "index_fit", "seconds", "Time to fit the user index's model."
        )
        self._users = metrics.gauge("candidate", "index_users", "", "Users in the user index.")
        self._mistyped = metrics.gauge(
            "candidate",
            "index_mistyped_values",
            "",
            "Values of attributes that the user index has left out since it last read everything, "
            "because they aren't of the attribute's type or it has none.",
            ("owner", "attribute"),
        )

    @property
    def state(self) -> IndexState:
        """The current state; `refresh` has to have run before."""
        if self._state is None:
            raise RuntimeError("the user index has not been loaded")
        return self._state

    async def refresh(self) -> IndexState:
        """The state with everything that is committed; reads only what has changed. A small index
        whose model is out of date is also fitted."""
        state = await self._read()
        small = len(state.tables.interactions) <= SMALL
        return await self.fitted() if small and self._outgrown(state) else state

    async def fitted(self) -> IndexState:
        """The state with everything that is committed and a model that is up to date."""
        async with self._fitting:
            state = await self._read()
            model = None if self._folder is None else await self._folder.newer()
            if model is not None:
                self._from_folder = True
            elif self._from_folder or not self._outdated(state):
                return state
            elif self._shard:
                raise ConfigurationError(
                    "a shard serves the model of HELIOGRAPH_CANDIDATE_MODEL_FOLDER, which holds no "
                    "good one; make it with `heliograph candidate fit`"
                )
            else:
                model = await self._fit(state.tables)
            version = self._folder.version if self._folder and self._from_folder else ""
            part = await asyncio.to_thread(Part.of, model, self._share, version)
            fitted = Fit(self._clock.now(), len(state.tables.interactions))
            async with self._reading:
                last = self.state
                prediction = await asyncio.to_thread(
                    Prediction.of, part, last.tables, last.catalogue
                )
                self._state = replace(last, prediction=prediction, fit=fitted)
            if self._folder is not None and self._from_folder:
                self._folder.compare(prediction.known)
            return self.state

    async def _fit(self, tables: Tables) -> CandidateModel:
        started = self._clock.monotonic()
        seed, threads = self._options.seed, self._options.threads
        model = await asyncio.to_thread(fit_model, tables, seed=seed, threads=threads)
        self._fit_seconds.observe(self._clock.monotonic() - started)
        return model

    def _outdated(self, state: IndexState) -> bool:
        if state.fit is None or self._outgrown(state):
            return bool((state.catalogue.weights.data > 0).any())
        new = len(state.tables.interactions) != state.fit.interactions
        return new and self._clock.now() - state.fit.time >= self._options.refit_interval

    def _outgrown(self, state: IndexState) -> bool:
        count = len(state.tables.interactions)
        if state.fit is None:
            return count > 0
        return not state.fit.interactions / GROWTH <= count <= state.fit.interactions * GROWTH

    async def _read(self) -> IndexState:
        async with self._reading:
            if self._state is None or await self._changed(self._state.snapshot):
                started = self._clock.monotonic()
                self._state = await self._next(self._state)
                self._seconds.observe(self._clock.monotonic() - started)
                self._users.set(len(self._state.catalogue.user_ids))
                self._count_mistyped(self._state.tables)
            return self._state

    def _count_mistyped(self, tables: Tables) -> None:
        self._mistyped.clear()
        for columns in (tables.users.columns, tables.items.columns):
            for name, count in columns.mistyped.items():
                self._mistyped.labels(columns.owner, name).set(count)

    async def _changed(self, snapshot: str) -> bool:
        async with self._database.read() as work:
            return await reading.changed_since(work, snapshot)

    async def _next(self, state: IndexState | None) -> IndexState:
        known, since = Tables.empty(), reading.BEGINNING
        async with self._database.read(timeout=LOAD_TIMEOUT) as work:
            if state is not None and not await reading.retyped(work, state.tables):
                known, since = state.tables, state.snapshot
            snapshot = await reading.current_snapshot(work)
            tables, users, items = await reading.read_changes(work, known, since, self._share)

        def build() -> IndexState:
            catalogue = tables.catalogue()
            catalogue.derive()
            prediction: Prediction | Unfitted = Unfitted(catalogue)
            if state is not None and isinstance(state.prediction, Prediction):
                if known is state.tables:
                    placed: dict[Side, Placement] = {"users": users, "items": items}
                    prediction = state.prediction.moved(tables, catalogue, placed)
                else:
                    prediction = Prediction.of(state.prediction.part, tables, catalogue)
            fitted = None if state is None else state.fit
            return IndexState(
                tables=tables,
                catalogue=catalogue,
                relations=tables.relations(),
                prediction=prediction,
                fit=fitted,
                user_columns=with_facts(
                    tables.users.columns, tables.user_created, catalogue.user_counts
                ),
                item_columns=with_facts(
                    tables.items.columns, tables.item_created, catalogue.item_counts
                ),
                snapshot=snapshot,
            )

        return await asyncio.to_thread(build)
