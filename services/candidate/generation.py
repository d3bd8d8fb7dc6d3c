"""Daily generation: sources → without what a user had lately → events in the pool."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa

from services.candidate import event_store, generation_store, literals
from services.candidate.copying import Types, copied, rows_of
from services.candidate.drafting import Drafting, Handled
from services.candidate.event_types import EventTypes
from services.candidate.events import Route
from services.candidate.generation_store import Run
from services.candidate.index import IndexState, IndexView
from services.candidate.orders import Order, check_sources, ordered_rows
from services.candidate.progress import Progress
from services.candidate.publisher import Publisher
from services.candidate.sources import (
    SOURCES,
    Proposals,
    Source,
    SourceCount,
    SourceInputs,
    make_sources,
)
from services.candidate.sources import propose as propose_items
from services.candidate.sources.arrays import NONE, Mask, Matrix, Rows, sparse
from services.candidate.sources.availability import Availability, AvailabilityOptions, Yields
from services.candidate.sources.segments import activities
from services.runtime import metrics
from services.runtime.clock import Clock
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import FailedPrecondition
from services.runtime.hashing import unit_hashes
from services.runtime.logs import Logger

EXPLORATION_SALT = "candidate-exploration"
HALF_LIVES_KEPT = 8
AT_ONCE = 2
_RECENT: Types = {"user": pa.string(), "item": pa.string()}


FriendsElsewhere = Callable[
    [IndexState, Rows, datetime, timedelta], Awaitable[tuple[IndexState, Matrix]]
]
"""From a state, rows of its users, the time and a window: the state with friends of these who are
not among its users as actors, and what those have liked lately; see `FriendActivity`."""


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """Settings of the generation."""

    event_type: str
    chunk: int
    repeat_horizon: timedelta
    fresh_window: timedelta
    friend_window: timedelta
    availability: AvailabilityOptions


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """What one run works with; nothing in it changes."""

    order: Order
    run_id: int
    state: IndexState
    names: Sequence[str]
    sources: Sequence[Source]
    rows: Rows
    """Of the users."""
    groups: Rows
    """Each user's Activity, over the whole catalogue."""
    availability: Availability
    drafting: Drafting


@dataclass(frozen=True, eq=False, slots=True)
class Chunk:
    """Some users on their way through a run."""

    rows: Rows
    ids: Sequence[str]
    missing: Mask
    """Users × sources that weren't asked on this day before."""
    allowed: Mask
    """Users × sources that may be asked: not skipped."""
    proposals: Proposals


@dataclass(frozen=True, eq=False, slots=True)
class Stored:
    """What became of a chunk."""

    users: int
    counts: Mapping[str, SourceCount]
    yields: Yields


class Generator:
    """Runs the sources for users and puts their events into the pool.

    Each chunk of users is committed with the marks that say which sources were asked for them, so
    that a run for the same day goes on where an earlier one ended and never asks twice.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        index: IndexView,
        types: EventTypes,
        publisher: Publisher,
        options: GenerationOptions,
        log: Logger,
        friends: FriendsElsewhere | None = None,
    ) -> None:
        """`friends`: of an index that doesn't hold all users, how those of others come in."""
        self._friends = friends
        self._database = database
        self._clock = clock
        self._index = index
        self._types = types
        self._publisher = publisher
        self._options = options
        self._log = log
        self._failures = metrics.counter(
            "candidate",
            "source_failures",
            "",
            "Chunks of users that a source failed on.",
            ["source"],
        )

    async def run(self, order: Order) -> AsyncIterator[Progress]:
        """Generate; yields progress after each chunk, the last one with `done`.

        Raises InvalidArgument for an unknown source, NotFound when none of the named users is
        known, FailedPrecondition when the generated events' type is not registered or not ranked.
        """
        check_sources(order.sources)
        await self._check_type()
        plan = await self._plan(order)
        progress = Progress(len(plan.rows), plan.names, plan.availability)
        async with aclosing(self._stored(plan, progress)) as chunks:
            async for stored in chunks:
                progress.count(stored.users, stored.counts, stored.yields)
                if progress.users < progress.total:
                    yield progress
        events = sum(made.accepted for made in progress.made.values())
        async with self._database.unit_of_work() as work:
            now = self._clock.now()
            await generation_store.finish_run(work, plan.run_id, progress.users, events, now)
            await work.commit()
        progress.done = True
        yield progress

    async def _plan(self, order: Order) -> Plan:
        state = await self._index.fitted()
        now, options = self._clock.now(), self._options
        names = [name for name in SOURCES if not order.sources or name in order.sources]
        rows = await asyncio.to_thread(ordered_rows, state.catalogue, order)
        elsewhere = None
        if self._friends is not None:
            state, elsewhere = await self._friends(state, rows, now, options.friend_window)
        kept = int(options.availability.half_life_days * HALF_LIVES_KEPT)
        since = date.fromordinal(max(1, order.day.toordinal() - kept))
        async with self._database.unit_of_work() as work:
            past = await generation_store.past_yields(work, order.day, since, names)
            run = Run(order.day, order.shard, order.shard_count, names)
            run_id = await generation_store.begin_run(work, run, now)
            await work.commit()
        inputs = SourceInputs(
            state.catalogue,
            state.prediction,
            now,
            options.fresh_window,
            options.friend_window,
            state.relations,
            elsewhere,
        )
        sources, groups = await asyncio.to_thread(
            lambda: (make_sources(inputs, names), activities(state.catalogue, now))
        )
        return Plan(
            order=order,
            run_id=run_id,
            state=state,
            names=names,
            sources=sources,
            rows=rows,
            groups=groups,
            availability=Availability.learn(past, len(names), options.availability),
            drafting=Drafting(state, sources, order.day, options.event_type),
        )

    async def _stored(self, plan: Plan, progress: Progress) -> AsyncGenerator[Stored]:
        """Chunks in their order, AT_ONCE of them under way: while one waits for the database, the
        sources are asked for another. They share no user, so none waits for another's locks."""
        ahead: list[asyncio.Task[Stored]] = []
        try:
            for start in range(0, len(plan.rows), self._options.chunk):
                rows = plan.rows[start : start + self._options.chunk]
                ahead.append(asyncio.create_task(self._generate(plan, rows, progress)))
                if len(ahead) == AT_ONCE:
                    yield await ahead.pop(0)
            while ahead:
                yield await ahead.pop(0)
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _generate(self, plan: Plan, rows: Rows, progress: Progress) -> Stored:
        chunk = await self._propose(plan, rows, progress)
        self._note_failures(plan, chunk, progress)
        return await self._store(plan, chunk, progress)

    async def _propose(self, plan: Plan, rows: Rows, progress: Progress) -> Chunk:
        ids = [plan.state.catalogue.user_ids[row] for row in rows]
        with progress.timed("read"):
            async with self._database.read() as work:
                missing = await _missing(work, plan, ids)
                blocked = await self._recent(work, plan.state, ids)
        allowed = self._allowed(plan, rows, ids)
        with progress.timed("propose"):
            proposals = await asyncio.to_thread(
                propose_items,
                plan.sources,
                rows,
                plan.order.per_source,
                blocked,
                missing & allowed,
            )
        return Chunk(rows, ids, missing, allowed, proposals)

    def _allowed(self, plan: Plan, rows: Rows, ids: Sequence[str]) -> Mask:
        allowed: Mask = ~plan.availability.skipped[plan.groups[rows]]
        if plan.order.ask_all or allowed.all():
            return np.ones_like(allowed)
        day, share = plan.order.day.isoformat(), self._options.availability.exploration_share
        allowed |= (unit_hashes(ids, EXPLORATION_SALT, day) < share)[:, None]
        return allowed

    async def _store(self, plan: Plan, chunk: Chunk, progress: Progress) -> Stored:
        """Publish, mark and count a chunk, in one transaction."""
        now = self._clock.now()
        async with self._database.unit_of_work() as work:
            with progress.timed("read"):
                known = await event_store.lock_users(work, chunk.ids)
                missing = chunk.missing & await _missing(work, plan, chunk.ids)
                missing &= np.array([[name in known] for name in chunk.ids])
            handled = Handled.of(plan.names, missing, chunk.allowed, chunk.proposals)
            with progress.timed("publish"):
                drafts, origins = plan.drafting.drafts(chunk.rows, chunk.proposals, handled)
                published = await self._publisher.publish_in(work, drafts, now)
            with progress.timed("mark"):
                await generation_store.mark_asked(work, plan.order.day, handled.marks(chunk.ids))
                new = [n for key, n in published.added.items() if key not in published.evicted]
                accepted, groups = origins[np.array(new, np.int64)], plan.groups[chunk.rows]
                yields = handled.yields(groups, accepted, chunk.proposals.counts)
                await generation_store.add_yields(work, plan.run_id, plan.names, yields)
            with progress.timed("commit"):
                await work.commit()
        return Stored(len(chunk.rows), chunk.proposals.counts, yields)

    def _note_failures(self, plan: Plan, chunk: Chunk, progress: Progress) -> None:
        asked = chunk.missing & chunk.allowed
        for name, error in chunk.proposals.failed.items():
            users = int(asked[:, plan.names.index(name)].sum())
            progress.made[name].failed_users += users
            self._failures.labels(name).inc()
            self._log.error("a source failed and is left out", source=name, exc_info=error)

    async def _recent(self, work: UnitOfWork, state: IndexState, ids: Sequence[str]) -> Matrix:
        """Items that the users had events about within the horizon: users × items."""
        since = self._clock.now() - self._options.repeat_horizon
        params = {"user_ids": literals.texts(ids), "since": since.isoformat()}
        found = await copied(work, event_store.QUERIES.recent_items, params, _RECENT)
        users = rows_of({name: place for place, name in enumerate(ids)}, found["user"])
        items = rows_of(state.catalogue.item_rows, found["item"])
        known = np.flatnonzero(items != NONE)
        shape = (len(ids), len(state.catalogue.item_ids))
        return sparse(np.ones(len(known), np.float32), users[known], items[known], shape)

    async def _check_type(self) -> None:
        name = self._options.event_type
        async with self._database.read() as work:
            rules = (await self._types.rules(work, [name])).get(name)
        if rules is None or rules.route is not Route.RANKED:
            raise FailedPrecondition(
                f"the type of generated events, {name!r}, is not registered with the ranked route; "
                "register it, or set HELIOGRAPH_CANDIDATE_GENERATED_EVENT_TYPE",
                reason="GENERATED_EVENT_TYPE",
            )


async def _missing(work: UnitOfWork, plan: Plan, ids: Sequence[str]) -> Mask:
    """Users × sources that weren't asked on the day yet."""
    asked = await generation_store.asked_sources(work, plan.order.day, ids)
    if not asked:
        return np.ones((len(ids), len(plan.names)), np.bool_)
    none: frozenset[str] = frozenset()
    return np.array([[n not in asked.get(name, none) for n in plan.names] for name in ids])
