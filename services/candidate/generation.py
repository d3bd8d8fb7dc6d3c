"""Daily generation: sources → without what a user had lately → events in the pool."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import numpy as np

from services.candidate import event_store, generation_store
from services.candidate.event_types import EventTypes
from services.candidate.events import Draft, Route, event_id_of
from services.candidate.generation_store import Run
from services.candidate.index import IndexState, UserIndex
from services.candidate.messages import digest_of
from services.candidate.publisher import Published, Publisher
from services.candidate.sources import SOURCES, Proposals, Source, SourceInputs, make_sources
from services.candidate.sources import propose as propose_items
from services.candidate.sources.arrays import Matrix, Rows, sparse
from services.runtime import metrics
from services.runtime.clock import Clock
from services.runtime.database import Database
from services.runtime.errors import FailedPrecondition, FieldError, InvalidArgument, NotFound
from services.runtime.hashing import unit_hash
from services.runtime.logs import Logger

SHARD_SALT = "candidate-shard"


@dataclass(frozen=True, slots=True)
class Order:
    """What to generate."""

    day: date
    user_ids: Sequence[str] = ()
    """Empty: all."""
    sources: Sequence[str] = ()
    """Empty: all registered."""
    per_source: int = 10
    shard: int = 0
    shard_count: int = 1


@dataclass(slots=True)
class Made:
    """What one source has made."""

    proposed: int = 0
    accepted: int = 0
    failed_users: int = 0
    """Users for whom it failed: a later run asks it again."""

    @property
    def dropped(self) -> int:
        """Proposed, but no new event: another source's, known already, or over the pool's size."""
        return self.proposed - self.accepted


@dataclass(slots=True)
class Progress:
    """How far a run is."""

    total: int
    users: int = 0
    made: dict[str, Made] = field(default_factory=dict)
    done: bool = False


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """Settings of the generation."""

    event_type: str
    chunk: int
    repeat_horizon: timedelta
    fresh_window: timedelta


class Generator:
    """Runs the sources for users and puts their events into the pool.

    Each chunk of users is committed with the marks that say which sources were asked for them, so
    that a run for the same day goes on where an earlier one ended and never asks twice.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        index: UserIndex,
        types: EventTypes,
        publisher: Publisher,
        options: GenerationOptions,
        log: Logger,
    ) -> None:
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
        _check_sources(order.sources)
        await self._check_type()
        state = await self._index.fitted()
        now = self._clock.now()
        names = [name for name in SOURCES if not order.sources or name in order.sources]
        inputs = SourceInputs(state.catalogue, state.prediction, now, self._options.fresh_window)
        rows = _rows(state, order)
        progress = Progress(len(rows), made={name: Made() for name in names})
        async with self._database.unit_of_work() as work:
            run = Run(order.day, order.shard, order.shard_count, names)
            run_id = await generation_store.begin_run(work, run, now)
            await work.commit()
        for start in range(0, len(rows), self._options.chunk):
            chunk = rows[start : start + self._options.chunk]
            await self._generate_chunk(order, inputs, state, chunk, names, progress)
            progress.users += len(chunk)
            if progress.users < progress.total:
                yield progress
        async with self._database.unit_of_work() as work:
            events = sum(made.accepted for made in progress.made.values())
            await generation_store.finish_run(work, run_id, progress.users, events, now)
            await work.commit()
        progress.done = True
        yield progress

    async def _generate_chunk(
        self,
        order: Order,
        inputs: SourceInputs,
        state: IndexState,
        chunk: Rows,
        names: Sequence[str],
        progress: Progress,
    ) -> None:
        ids = [state.catalogue.user_ids[row] for row in chunk]
        async with self._database.read() as work:
            asked = await generation_store.asked_sources(work, order.day, ids)
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for row, name in zip(chunk.tolist(), ids, strict=True):
            missing = tuple(n for n in names if n not in asked.get(name, frozenset()))
            if missing:
                groups[missing].append(row)
        for missing, users in groups.items():
            sources = make_sources(inputs, missing)
            await self._generate_group(order, state, sources, np.array(users), progress)

    async def _generate_group(
        self,
        order: Order,
        state: IndexState,
        sources: Sequence[Source],
        rows: Rows,
        progress: Progress,
    ) -> None:
        catalogue, now = state.catalogue, self._clock.now()
        ids = [catalogue.user_ids[row] for row in rows]
        blocked = await self._recent(state, ids, now)
        proposals = await asyncio.to_thread(propose_items, sources, rows, order.per_source, blocked)
        for name, error in proposals.failed.items():
            progress.made[name].failed_users += len(rows)
            self._failures.labels(name).inc()
            self._log.error("a source failed and is left out", source=name, exc_info=error)
        async with self._database.unit_of_work() as work:
            known = await event_store.lock_users(work, ids)
            asked = await generation_store.asked_sources(work, order.day, ids)
            drafts, origins = self._drafts(order, state, proposals, known, asked)
            published = await self._publisher.publish_in(work, drafts, now)
            await generation_store.mark_asked(work, order.day, known, proposals.names)
            await work.commit()
        _count(progress.made, proposals, published, origins)

    async def _recent(self, state: IndexState, ids: Sequence[str], now: datetime) -> Matrix:
        """Items that the users had events about within the horizon: users × items."""
        params = {"user_ids": ids, "since": now - self._options.repeat_horizon}
        async with self._database.read() as work:
            found = await work.rows(event_store.QUERIES.recent_items, params)
        places = {name: place for place, name in enumerate(ids)}
        items = state.catalogue.item_rows
        pairs = [(places[row.user_id], items[row.item_id]) for row in found if row.item_id in items]
        table = np.array(pairs, np.int64).reshape(-1, 2)
        values = np.ones(len(table), np.float32)
        return sparse(values, table[:, 0], table[:, 1], (len(ids), len(items)))

    def _drafts(
        self,
        order: Order,
        state: IndexState,
        proposals: Proposals,
        known: Collection[str],
        asked: Mapping[str, frozenset[str]],
    ) -> tuple[list[Draft], list[str]]:
        """Drafts and the source of each; not for users who are gone, nor for sources that a run
        beside this one has asked meanwhile."""
        catalogue = state.catalogue
        drafts, origins = [], []
        columns = (proposals.users, proposals.items, proposals.scores, proposals.sources)
        for user, item, score, origin in zip(*(c.tolist() for c in columns), strict=True):
            user_id, source = catalogue.user_ids[user], proposals.names[origin]
            if user_id not in known or source in asked.get(user_id, frozenset()):
                continue
            item_id = catalogue.item_ids[item]
            event_id = event_id_of(f"daily:{order.day.isoformat()}", item_id)
            content = f"{event_id}\0{self._options.event_type}"
            draft = Draft(
                user_id=user_id,
                event_id=event_id,
                event_type=self._options.event_type,
                digest=digest_of(content.encode()),
                item_ids=(item_id,),
                source=source,
                source_score=min(max(score, 0.0), 1.0),
            )
            drafts.append(draft)
            origins.append(source)
        return drafts, origins

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


def shard_of(user_id: str, shard_count: int) -> int:
    """The shard of a user, the same on every machine."""
    return int(unit_hash(SHARD_SALT, user_id) * shard_count)


def _rows(state: IndexState, order: Order) -> Rows:
    catalogue = state.catalogue
    if order.user_ids:
        known = catalogue.user_rows
        rows = sorted({known[name] for name in order.user_ids if name in known})
        if not rows:
            raise NotFound("none of the users is known", reason="UNKNOWN_USER")
    else:
        rows = list(range(len(catalogue.user_ids)))
    if order.shard_count > 1:
        ids, count = catalogue.user_ids, order.shard_count
        rows = [row for row in rows if shard_of(ids[row], count) == order.shard]
    return np.array(rows, np.int64)


def _check_sources(names: Sequence[str]) -> None:
    unknown = [
        FieldError(f"sources[{place}]", f"{name!r} is no source; known: {', '.join(SOURCES)}")
        for place, name in enumerate(names)
        if name not in SOURCES
    ]
    if unknown:
        raise InvalidArgument(unknown[0].description, reason="UNKNOWN_SOURCE", fields=unknown)


def _count(
    made: Mapping[str, Made], proposals: Proposals, published: Published, origins: Sequence[str]
) -> None:
    for name, count in proposals.counts.items():
        made[name].proposed += count.proposed
    for key, place in published.added.items():
        if key not in published.evicted:
            made[origins[place]].accepted += 1
