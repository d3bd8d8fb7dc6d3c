"""What is left of users' attention: sends that policy would still allow, and room in their pools.

Compact columns aligned to the user index, read from policy's StreamSendability while someone asks
for them, at most 60 s old. When policy doesn't answer, budgets are unknown (None), which is counted
and stated in answers, and nobody is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import grpc
import numpy as np
import numpy.typing as npt
from heliograph.policy.v1alpha1 import policy_pb2_grpc, sendability_pb2

from services.candidate.event_store import QUERIES as EVENTS
from services.candidate.questions import Omission
from services.candidate.rotation import QUERIES
from services.candidate.sources.arrays import Floats, Mask, Rows
from services.candidate.sources.catalogue import Catalogue
from services.runtime import calls, metrics
from services.runtime.clock import Clock
from services.runtime.database import Database
from services.runtime.errors import DomainError
from services.runtime.logs import Logger
from services.runtime.together import together

FRESHNESS = timedelta(seconds=60)
"""Greatest age of what is used."""
INTEREST = timedelta(minutes=10)
"""How long after the last question budgets are kept fresh."""
PATIENCE = timedelta(seconds=2)
"""How long a question waits for the first reading."""
PAUSE = timedelta(seconds=5)
"""Least time between two tries while policy doesn't answer."""
READ_TIMEOUT = timedelta(seconds=45)
USERS_AT_A_TIME = 10_000
LOOKED_UP_AT_ONCE = 500
NO_RECIPIENT_CAP = 255
"""Discounts who is no recipient more than anyone at the cap."""

Bytes = npt.NDArray[np.uint8]
Small = TypeVar("Small", np.uint8, np.uint16)


@dataclass(frozen=True, eq=False, slots=True)
class BudgetColumns:
    """Per user of a catalogue. A user whom policy doesn't know as a recipient has no open channel
    and no send left of 255."""

    catalogue: Catalogue
    channels: Bytes
    """Bits of the channels that are open now; 0: none."""
    remaining: Bytes
    """Sends left today."""
    caps: Bytes
    """Sends a day at most."""
    waiting: npt.NDArray[np.uint16]
    """Events in the pool at most, exact from `pool_size` on."""
    pool_size: int
    read_time: datetime
    """When it was read; all of it is at least as new."""

    def obstacles(self, rows: Rows) -> Iterator[tuple[Omission, Mask]]:
        """What makes a send impossible or of poor value, and in whose way of these it stands."""
        yield Omission.NO_CHANNEL, self.channels[rows] == 0
        yield Omission.CAP, self.remaining[rows] == 0
        yield Omission.POOL_FULL, self.waiting[rows] >= self.pool_size

    def discounts(self, rows: Rows) -> Floats:
        """(1 + left today) / (1 + cap) × (1 − waiting / (1 + pool size)), halved without an open
        channel; in (0, 1]."""
        remaining = np.minimum(self.remaining[rows], self.caps[rows])
        left = (1.0 + remaining) / (1.0 + self.caps[rows])
        room = 1.0 - np.minimum(self.waiting[rows], self.pool_size) / (1.0 + self.pool_size)
        found: Floats = (left * room * np.where(self.channels[rows] == 0, 0.5, 1.0)).astype(
            np.float32
        )
        return found

    def aligned(self, catalogue: Catalogue) -> BudgetColumns:
        """The same for a later catalogue; users who came since are as unknown recipients."""
        if catalogue is self.catalogue:
            return self
        known = self.catalogue.user_rows
        rows = np.fromiter(
            (known.get(name, -1) for name in catalogue.user_ids), np.int64, len(catalogue.user_ids)
        )

        def moved(column: npt.NDArray[Small], default: int = 0) -> npt.NDArray[Small]:
            return np.append(column, column.dtype.type(default))[rows]

        return BudgetColumns(
            catalogue=catalogue,
            channels=moved(self.channels),
            remaining=moved(self.remaining),
            caps=moved(self.caps, NO_RECIPIENT_CAP),
            waiting=moved(self.waiting),
            pool_size=self.pool_size,
            read_time=self.read_time,
        )


class Budgets:
    """Reads budgets while someone asks for them."""

    def __init__(
        self,
        database: Database,
        policy: policy_pb2_grpc.PolicyServiceAsyncStub,
        clock: Clock,
        log: Logger,
        pool_size: int,
    ) -> None:
        self._database = database
        self._policy = policy
        self._clock = clock
        self._log = log
        self._pool_size = pool_size
        self._columns: BudgetColumns | None = None
        self._reading: asyncio.Task[None] | None = None
        self._asked: datetime | None = None
        self._failed: float | None = None
        self._taken = timedelta(0)
        self._failures = metrics.counter(
            "candidate", "budget_failures", "", "Readings of users' budgets that failed."
        )

    async def current(self, catalogue: Catalogue) -> BudgetColumns | None:
        """The budgets of a catalogue's users, at most 60 s old; None when they are unknown."""
        self._asked = self._clock.now()
        if not self._is_fresh(self._asked, FRESHNESS):
            reading = self._read_soon(catalogue)
            if reading is not None:
                patience, left = PATIENCE.total_seconds(), calls.remaining()
                await asyncio.wait(
                    {reading}, timeout=patience if left is None else min(patience, left / 2)
                )
        columns = self._columns
        if columns is None or not self._is_fresh(self._clock.now(), FRESHNESS):
            return None
        aligned = await asyncio.to_thread(columns.aligned, catalogue)
        if self._columns is columns:  # else newer ones were read meanwhile
            self._columns = aligned
        return aligned

    async def keep_fresh(self, catalogue: Catalogue, now: datetime) -> None:
        """Read again before the columns grow old, while there is interest: the sooner, the longer
        a reading takes."""
        interested = self._asked is not None and now - self._asked <= INTEREST
        if interested and not self._is_fresh(now, FRESHNESS / 2 - self._taken):
            reading = self._read_soon(catalogue)
            if reading is not None:
                await reading

    def _is_fresh(self, now: datetime, most: timedelta) -> bool:
        return self._columns is not None and (timedelta(0) <= now - self._columns.read_time <= most)

    def _read_soon(self, catalogue: Catalogue) -> asyncio.Task[None] | None:
        """The reading under way, or a new one unless the last has just failed."""
        if self._reading is not None and not self._reading.done():
            return self._reading
        now = self._clock.monotonic()
        if self._failed is not None and now - self._failed < PAUSE.total_seconds():
            return None
        context = copy_context()  # the simulated time goes along, the call's deadline doesn't
        context.run(calls.set_deadline, None)
        self._reading = asyncio.create_task(self._read(catalogue), context=context)
        return self._reading

    async def _read(self, catalogue: Catalogue) -> None:
        start = self._clock.monotonic()
        try:
            self._columns = await self._read_columns(catalogue)
            self._failed = None
            self._taken = timedelta(seconds=self._clock.monotonic() - start)
        except (grpc.aio.AioRpcError, DomainError) as error:
            self._failed = self._clock.monotonic()
            self._failures.inc()
            self._log.warning("users' budgets can't be read", problem=str(error))

    async def _read_columns(self, catalogue: Catalogue) -> BudgetColumns:
        size = len(catalogue.user_ids)
        found = BudgetColumns(
            catalogue=catalogue,
            channels=np.zeros(size, np.uint8),
            remaining=np.zeros(size, np.uint8),
            caps=np.full(size, NO_RECIPIENT_CAP, np.uint8),
            waiting=np.zeros(size, np.uint16),
            pool_size=self._pool_size,
            read_time=self._clock.now(),
        )
        await together([self._read_sends(found), self._read_pools(found)])
        return found

    async def _read_sends(self, found: BudgetColumns) -> None:
        """Fill in what policy knows."""
        request = sendability_pb2.StreamSendabilityRequest(chunk_size=USERS_AT_A_TIME)
        stream = self._policy.StreamSendability(request, timeout=READ_TIMEOUT.total_seconds())
        async for chunk in stream:
            rows = await _rows_of(found.catalogue, chunk.user_ids)
            here = rows >= 0
            found.channels[rows[here]] = np.frombuffer(chunk.sendable_channels, np.uint8)[here]
            found.remaining[rows[here]] = np.frombuffer(chunk.remaining_today, np.uint8)[here]
            found.caps[rows[here]] = np.frombuffer(chunk.daily_caps, np.uint8)[here]

    async def _read_pools(self, columns: BudgetColumns) -> None:
        """Fill in the stored bounds; ends don't lower them, so the pools that they call full are
        counted."""
        waiting, catalogue, full = columns.waiting, columns.catalogue, list[str]()
        after = ""
        async with self._database.read(timeout=READ_TIMEOUT) as work:
            while True:
                page = {"after": after, "count": USERS_AT_A_TIME}
                (found,) = await work.rows(QUERIES.pool_bounds, page)
                if not found.user_ids:
                    break
                bounds = np.array(found.bounds)
                await _fill(waiting, catalogue, found.user_ids, bounds)
                full += [
                    found.user_ids[place] for place in np.flatnonzero(bounds >= self._pool_size)
                ]
                after = found.user_ids[-1]
            for users in _parts(full):
                rows = await work.rows(EVENTS.count_pools, {"user_ids": users})
                counted = dict.fromkeys(users, 0) | {row.user_id: row.waiting for row in rows}
                counts = np.array([counted[user] for user in users])
                await _fill(waiting, catalogue, users, counts)


async def _fill(
    column: npt.NDArray[Small], catalogue: Catalogue, users: list[str], values: npt.NDArray[Any]
) -> None:
    """Put the values of some users, of whom some may be unknown, to their rows."""
    rows = await _rows_of(catalogue, users)
    column[rows[rows >= 0]] = values[rows >= 0]


async def _rows_of(catalogue: Catalogue, users: Sequence[str]) -> Rows:
    """Rows of users, −1 for an unknown one. Gives way to the calls that are being answered: to look
    so many up takes long."""
    known, rows = catalogue.user_rows, np.empty(len(users), np.int64)
    for start in range(0, len(users), LOOKED_UP_AT_ONCE):
        some = users[start : start + LOOKED_UP_AT_ONCE]
        rows[start : start + len(some)] = [known.get(name, -1) for name in some]
        await asyncio.sleep(0)
    return rows


def _parts(users: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(users), USERS_AT_A_TIME):
        yield users[start : start + USERS_AT_A_TIME]
