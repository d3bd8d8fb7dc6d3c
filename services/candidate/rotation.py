"""Recommendations that were given: stored under their ids, and pushed down for a while."""

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from services.candidate import literals
from services.candidate.questions import Page, Rotation, Subject
from services.candidate.sources.arrays import Floats, Rows
from services.runtime.database import Database, UnitOfWork, load_queries
from services.runtime.errors import DomainError

QUERIES = load_queries(Path(__file__).with_name("recommendation_queries.sql"))
MOST_AT_A_TIME = 500
WRITE_TIMEOUT = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Given:
    """A page of an answer."""

    page: Page
    subject: Subject
    scenario: str
    moment: datetime
    """When it was given."""
    ids: Sequence[str]
    """What was returned, best first."""


@dataclass(frozen=True, eq=False, slots=True)
class Recent:
    """What was recently returned, and how far it is pushed down."""

    rows: Rows
    """Ascending."""
    penalties: Floats
    """1 − factor of each of the rows."""

    @classmethod
    def build(
        cls,
        returned: Mapping[str, datetime],
        known: Mapping[str, int],
        rotation: Rotation,
        moment: datetime,
    ) -> "Recent":
        """`returned` are ids with the time they were last returned, `known` the rows by id."""
        found = sorted((known[name], name) for name in returned if name in known)
        ages = [(moment - returned[name]) / rotation.time for _, name in found]
        left = np.clip(1.0 - np.array(ages, np.float32), 0.0, 1.0)
        rows = np.array([row for row, _ in found], np.int64)
        return cls(rows, (rotation.rate * left).astype(np.float32))

    def apply(self, rows: Rows, scores: Floats) -> None:
        """Push down the scores of some rows (ascending) in place: by the factor 1 − rate ×
        (1 − age / rotation time)."""
        first, last = np.searchsorted(self.rows, (rows[0], rows[-1] + 1)) if len(rows) else (0, 0)
        ours = slice(first, last)
        places = np.searchsorted(rows, self.rows[ours])
        there = rows[places] == self.rows[ours]
        scores[places[there]] *= 1.0 - self.penalties[ours][there]


class Recommendations:
    """Stores what was given, before the answer goes out.

    Answers given at the same time are written together: while one transaction commits, the next
    batch gathers.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[Given, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def record(self, given: Given) -> None:
        """Store a page of an answer; returns when it is committed. The same page is stored once."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((given, done))
        if self._writer is None:
            # In a context of its own: the batch is not bound to the deadline of one call.
            self._writer = asyncio.create_task(self._write(), context=Context())
        await done

    async def returned(
        self, subject: Subject, scenario: str, page: Page, since: datetime
    ) -> dict[str, datetime]:
        """Who or what other answers to the same question returned, up to the time of the page's
        answer, and when last."""
        params = {
            "direction": int(subject.direction),
            "subject": subject.name,
            "scenario": scenario,
            "recommendation_id": page.recommendation_id,
            "since": since,
            "until": page.moment,
        }
        async with self._database.read() as work:
            rows = await work.rows(QUERIES.recently_returned, params)
        return {row.id: row.last_time for row in rows}

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:MOST_AT_A_TIME]
                del self._waiting[:MOST_AT_A_TIME]
                error = await self._tried([given for given, _ in batch])
                for _, done in batch:
                    if not done.done():  # else its call was given up
                        done.set_result(None) if error is None else done.set_exception(error)
        finally:
            self._writer = None

    async def _tried(self, batch: Sequence[Given]) -> DomainError | None:
        try:
            await self._insert(batch)
        except DomainError as error:
            return error
        return None

    async def _insert(self, batch: Sequence[Given]) -> None:
        async with self._database.unit_of_work(timeout=WRITE_TIMEOUT) as work:
            await insert(work, batch)
            await work.commit()


async def insert(work: UnitOfWork, batch: Sequence[Given]) -> None:
    """Store pages of answers, each once, with what else the transaction does."""
    params = {
        "recommendation_ids": literals.texts(given.page.recommendation_id for given in batch),
        "pages": literals.numbers(given.page.number for given in batch),
        "directions": literals.numbers(int(given.subject.direction) for given in batch),
        "subjects": literals.texts(given.subject.name for given in batch),
        "scenarios": literals.texts(given.scenario for given in batch),
        "times": literals.times(given.moment for given in batch),
        "returned": literals.texts(literals.texts(given.ids) for given in batch),
    }
    await work.execute(QUERIES.insert_recommendations, params)
