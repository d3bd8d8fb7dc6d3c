"""Reads the budgets of all users: who can be sent to from policy, how full pools are from Postgres.

Both come in any order of users, as arrays that no Python code looks into name by name; at the end
all names are looked up at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from heliograph.policy.v1alpha1 import policy_pb2_grpc, sendability_pb2

from services.candidate.budget_columns import NO_RECIPIENT_CAP, BudgetColumns, Small, rows_of
from services.candidate.event_store import QUERIES as EVENTS
from services.candidate.rotation import QUERIES
from services.candidate.sources.arrays import Rows
from services.runtime.clock import Clock
from services.runtime.database import Database, UnitOfWork

FRESHNESS = timedelta(seconds=60)
"""Greatest age of what is used; what takes longer to read is of no use."""
REFRESH_TIME = timedelta(seconds=20)
"""How long reading again may take for the sake of the calls that are being answered."""
MOST_REST = 3.0
"""Of the time that a piece of work took."""
USERS_AT_A_TIME = 10_000
BLOCKS_AT_A_TIME = 1_000
"""Of the table of users: some 50,000 users."""
MOST_WAITING = 65_535


class Pace:
    """Gives way to the calls that are being answered: rests after each piece of work `rest` times
    as long as it took, but only in the first 20 seconds."""

    def __init__(self, clock: Clock, rest: float) -> None:
        self._clock = clock
        self._rest = rest
        self._start = self._since = clock.monotonic()
        self.worked = 0.0
        """Seconds, without the rests."""

    async def give_way(self) -> None:
        """After a piece of work."""
        now = self._clock.monotonic()
        took = now - self._since
        self.worked += took
        left = REFRESH_TIME.total_seconds() - (now - self._start)
        await asyncio.sleep(max(0.0, min(took * self._rest, left)))
        self._since = self._clock.monotonic()


@dataclass(frozen=True, slots=True)
class _Told:
    """What was told of users, in any order, some at a time."""

    names: list[pa.Array[Any]] = field(default_factory=list)
    values: list[npt.NDArray[Any]] = field(default_factory=list)

    def take(self, names: pa.Array[Any], values: npt.NDArray[Any]) -> None:
        """The next ones: names, and by name a number or a row of numbers."""
        self.names.append(names)
        self.values.append(values)


class BudgetReader:
    """Reads all budgets once."""

    def __init__(
        self,
        database: Database,
        policy: policy_pb2_grpc.PolicyServiceAsyncStub,
        clock: Clock,
        pool_size: int,
    ) -> None:
        self._database = database
        self._policy = policy
        self._clock = clock
        self._pool_size = pool_size

    async def read(self, user_ids: Sequence[str], pace: Pace) -> BudgetColumns:
        """The budgets of users. Raises AioRpcError when policy doesn't answer, DomainError when
        Postgres doesn't."""
        read_time = self._clock.now()
        sends, pools = _Told(), _Told()
        await self._read_sends(sends, pace)
        await self._read_pools(pools, pace)
        found = await asyncio.to_thread(self._columns, user_ids, sends, pools, read_time)
        await pace.give_way()
        return found

    async def _read_sends(self, told: _Told, pace: Pace) -> None:
        """Open channels, sends left and cap by user."""
        request = sendability_pb2.StreamSendabilityRequest(chunk_size=USERS_AT_A_TIME)
        stream = self._policy.StreamSendability(request, timeout=FRESHNESS.total_seconds())
        async for chunk in stream:
            columns = (chunk.sendable_channels, chunk.remaining_today, chunk.daily_caps)
            values = np.stack([np.frombuffer(column, np.uint8) for column in columns], axis=1)
            told.take(pa.array(list(chunk.user_ids), pa.string()), values)
            await pace.give_way()

    async def _read_pools(self, told: _Told, pace: Pace) -> None:
        """The stored bounds; ends don't lower them, so the pools that they call full are
        counted."""
        full = list[str]()
        async with self._database.read(timeout=FRESHNESS) as work:
            (table,) = await work.rows(QUERIES.user_blocks)
            for first in range(0, table.blocks, BLOCKS_AT_A_TIME):
                page = {"first": f"({first},0)", "end": f"({first + BLOCKS_AT_A_TIME},0)"}
                for row in await work.rows(QUERIES.pool_bounds, page):
                    names = pc.split_pattern(pa.array([row.user_ids]), "\n").flatten()
                    if row.pool_bound < self._pool_size:
                        told.take(names, np.full(len(names), row.pool_bound, np.uint16))
                    else:
                        full += names.to_pylist()
                await pace.give_way()
            for users in _parts(full):
                told.take(pa.array(users), await _counted(work, users))
                await pace.give_way()

    def _columns(
        self, user_ids: Sequence[str], sends: _Told, pools: _Told, read_time: datetime
    ) -> BudgetColumns:
        rows = rows_of(pa.chunked_array(sends.names + pools.names, pa.string()), user_ids)
        told = sum(map(len, sends.names))
        values = np.concatenate([np.zeros((0, 3), np.uint8), *sends.values])
        waiting = np.concatenate([np.zeros(0, np.uint16), *pools.values])

        def column(rows: Rows, values: npt.NDArray[Small], default: int = 0) -> npt.NDArray[Small]:
            found = np.full(len(user_ids) + 1, default, values.dtype)
            found[rows] = values  # at the end those who aren't known
            return found[:-1]

        return BudgetColumns(
            user_ids=user_ids,
            channels=column(rows[:told], values[:, 0]),
            remaining=column(rows[:told], values[:, 1]),
            caps=column(rows[:told], values[:, 2], NO_RECIPIENT_CAP),
            waiting=column(rows[told:], waiting),
            pool_size=self._pool_size,
            read_time=read_time,
        )


async def _counted(work: UnitOfWork, users: list[str]) -> npt.NDArray[np.uint16]:
    """How many events wait in each pool."""
    rows = await work.rows(EVENTS.count_pools, {"user_ids": users})
    counted = dict.fromkeys(users, 0) | {row.user_id: row.waiting for row in rows}
    return np.minimum([counted[user] for user in users], MOST_WAITING).astype(np.uint16)


def _parts(users: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(users), USERS_AT_A_TIME):
        yield users[start : start + USERS_AT_A_TIME]
