"""When users' budgets are read: while someone asks for them, so that they are at most 60 s old.

When policy doesn't answer, budgets are unknown (None), which is counted and stated in answers, and
nobody is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import copy_context
from datetime import datetime, timedelta

import grpc

from services.candidate.budget_columns import BudgetColumns
from services.candidate.budget_reading import (
    FRESHNESS,
    MOST_REST,
    REFRESH_TIME,
    BudgetReader,
    Pace,
)
from services.runtime import calls, metrics
from services.runtime.clock import Clock
from services.runtime.errors import DomainError
from services.runtime.failures import told
from services.runtime.logs import Logger

REPLACED = timedelta(seconds=40)
"""Age at which newer ones are to be there: some time before they are of no use, for what may come
between."""
INTEREST = timedelta(minutes=10)
"""How long after the last question budgets are kept fresh."""
PATIENCE = timedelta(seconds=2)
"""How long a reading is waited for, from its start: each question would wait while policy hangs."""
FIRST_REST = 1.0
"""How long the first reading rests, by the time it works: answers wait for it, and calls go on."""
PAUSE = timedelta(seconds=5)
"""Least time between two tries while policy doesn't answer."""


class Budgets:
    """Reads budgets while someone asks for them, at a pace that leaves the processors to the calls
    that are being answered: half of the time where none are known, else less."""

    def __init__(self, reader: BudgetReader, clock: Clock, log: Logger) -> None:
        self._reader = reader
        self._clock = clock
        self._log = log
        self._columns: BudgetColumns | None = None
        self._aligning = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._began = 0.0
        """When it began, on the monotonic clock."""
        self._asked: datetime | None = None
        self._failed: float | None = None
        self._worked = 0.0
        """Seconds that the last reading took without its rests."""
        self._failures = metrics.counter(
            "candidate", "budget_failures", "", "Readings of users' budgets that failed."
        )

    async def current(self, user_ids: Sequence[str]) -> BudgetColumns | None:
        """The budgets of a catalogue's users, at most 60 s old; None when they are unknown."""
        self._asked = self._clock.now()
        if not self._is_fresh(self._asked, FRESHNESS):
            await self._wait_for(self._read_soon(user_ids))
        if not self._is_fresh(self._clock.now(), FRESHNESS):
            return None
        return await self._aligned(user_ids)

    async def keep_fresh(self, user_ids: Sequence[str], now: datetime) -> None:
        """Read again before the columns grow old, while there is interest: the sooner, the longer
        a reading takes. Goes on without waiting long, since in simulation mode a call waits for
        it."""
        takes = timedelta(seconds=self._worked * (1 + self._rest()))
        interested = self._asked is not None and now - self._asked <= INTEREST
        if interested and not self._is_fresh(now, REPLACED - takes):
            reading = self._read_soon(user_ids)
            await self._wait_for(reading)
            if reading is not None and reading.done():
                reading.result()  # raises what is no failure of policy or Postgres

    async def _wait_for(self, reading: asyncio.Task[None] | None) -> None:
        if reading is None:
            return
        patience = PATIENCE.total_seconds() - (self._clock.monotonic() - self._began)
        left = calls.remaining()
        timeout = patience if left is None else min(patience, left / 2)
        await asyncio.wait({reading}, timeout=max(timeout, 0.0))

    async def _aligned(self, user_ids: Sequence[str]) -> BudgetColumns | None:
        """What was read last, for other users where they have changed since."""
        async with self._aligning:
            columns = self._columns
            if columns is None or columns.user_ids is user_ids:
                return columns
            aligned = await asyncio.to_thread(columns.aligned, user_ids)
            if self._columns is columns:  # else newer ones were read meanwhile
                self._columns = aligned
            return aligned

    def _is_fresh(self, now: datetime, most: timedelta) -> bool:
        return self._columns is not None and (timedelta(0) <= now - self._columns.read_time <= most)

    def _rest(self) -> float:
        """How long reading again rests, by the time it works."""
        if self._worked == 0.0:
            return MOST_REST
        return min(MOST_REST, max(0.0, REFRESH_TIME.total_seconds() / self._worked - 1.0))

    def _read_soon(self, user_ids: Sequence[str]) -> asyncio.Task[None] | None:
        """The reading under way, or a new one unless the last has just failed."""
        if self._reading is not None and not self._reading.done():
            return self._reading
        now = self._clock.monotonic()
        if self._failed is not None and now - self._failed < PAUSE.total_seconds():
            return None
        context = copy_context()  # the simulated time goes along, the call's deadline doesn't
        context.run(calls.set_deadline, None)
        self._began = now
        self._reading = asyncio.create_task(self._read(user_ids), context=context)
        return self._reading

    async def _read(self, user_ids: Sequence[str]) -> None:
        known = self._is_fresh(self._clock.now(), FRESHNESS)
        pace = Pace(self._clock, self._rest() if known else FIRST_REST)
        try:
            self._columns = await self._reader.read(user_ids, pace)
            self._failed = None
            self._worked = pace.worked
        except (grpc.aio.AioRpcError, DomainError) as error:
            self._failed = self._clock.monotonic()
            self._failures.inc()
            self._log.warning("users' budgets can't be read", problem=told(error))
