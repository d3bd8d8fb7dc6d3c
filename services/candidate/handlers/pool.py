"""The pool and the ready queue, for the pacer and for explanations."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from heliograph.candidate.v1alpha1 import pool_pb2, publishing_pb2
from heliograph.type.v1alpha1 import event_pb2

from services.candidate.cursors import read_cursor
from services.candidate.event_store import Ending
from services.candidate.events import End
from services.candidate.handlers.batches import judge
from services.candidate.handlers.parts import Calls, Context
from services.candidate.messages import pool_event, read_time, require_plain
from services.candidate.pool import RANKED, Body
from services.runtime import paging

DEFAULT_ARRIVALS = 1000
DEFAULT_PER_USER = 64
DEFAULT_READY = 500
DEFAULT_LEASE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Settled:
    """One settlement: an end, or none and when to try again."""

    ending: Ending | None
    key: tuple[str, str]
    retry_time: datetime | None


class PoolCalls(Calls):
    """ReadArrivals to ListUserEvents."""

    async def ReadArrivals(
        self, request: pool_pb2.ReadArrivalsRequest, context: Context
    ) -> pool_pb2.ReadArrivalsResponse:
        arrivals = await self.parts.pool.arrivals(
            read_cursor(request.cursor), request.limit or DEFAULT_ARRIVALS
        )
        return pool_pb2.ReadArrivalsResponse(
            user_ids=arrivals.user_ids, cursor=str(arrivals.position), more=arrivals.more
        )

    async def ReadPool(
        self, request: pool_pb2.ReadPoolRequest, context: Context
    ) -> pool_pb2.ReadPoolResponse:
        users = list(dict.fromkeys(request.user_ids))
        per_user = request.limit_per_user or DEFAULT_PER_USER
        bodies = await self.parts.pool.read(users, per_user, self.parts.clock.now())
        answer = pool_pb2.ReadPoolResponse(event_types=await self._types_of(bodies))
        filled = {body.user_id for body in bodies}
        pools = {user: answer.pools.add(user_id=user) for user in users if user in filled}
        for body in bodies:
            pools[body.user_id].events.append(_event(body))
        return answer

    async def SettlePool(
        self, request: pool_pb2.SettlePoolRequest, context: Context
    ) -> pool_pb2.SettlePoolResponse:
        batch = judge(request.settlements, _settled)
        endings = [settled.ending for settled in batch.values if settled.ending is not None]
        ended = await self.parts.pool.settle(endings, RANKED, self.parts.clock.now())
        return pool_pb2.SettlePoolResponse(ended_count=ended, rejections=batch.rejections)

    async def LeaseReady(
        self, request: pool_pb2.LeaseReadyRequest, context: Context
    ) -> pool_pb2.LeaseReadyResponse:
        given = request.HasField("lease_duration")
        duration = request.lease_duration.ToTimedelta() if given else DEFAULT_LEASE
        bodies = await self.parts.pool.lease(
            request.owner, request.limit or DEFAULT_READY, duration, self.parts.clock.now()
        )
        return pool_pb2.LeaseReadyResponse(
            events=list(map(_event, bodies)),
            event_types=await self._types_of(bodies),
        )

    async def SettleReady(
        self, request: pool_pb2.SettleReadyRequest, context: Context
    ) -> pool_pb2.SettleReadyResponse:
        batch, now = judge(request.settlements, _settled), self.parts.clock.now()
        endings = [settled.ending for settled in batch.values if settled.ending is not None]
        back = {
            settled.key: settled.retry_time or now
            for settled in batch.values
            if settled.ending is None
        }
        ended = await self.parts.pool.settle_ready(endings, back, now)
        return pool_pb2.SettleReadyResponse(ended_count=ended, rejections=batch.rejections)

    async def ListUserEvents(
        self, request: publishing_pb2.ListUserEventsRequest, context: Context
    ) -> publishing_pb2.ListUserEventsResponse:
        size = paging.page_size(request.page_size)
        before = _read_place(request.page_token)
        rows = await self.parts.pool.of_user(request.user_id, request.event_id, before, size + 1)
        token = ""
        if len(rows) > size:
            last = rows[size - 1]
            token = paging.encode([last.accept_time.isoformat(), last.event_id])
        events = [
            pool_event(
                row.body,
                row.accept_time,
                row.end_kind,
                row.end_time,
                row.end_reason,
                row.merged_into,
                row.ready_time,
            )
            for row in rows[:size]
        ]
        return publishing_pb2.ListUserEventsResponse(events=events, next_page_token=token)

    async def _types_of(self, bodies: Sequence[Body]) -> list[event_pb2.EventType]:
        names = {body.event_type for body in bodies}
        if not names:
            return []
        async with self.parts.database.read() as work:
            return list((await self.parts.types.of(work, names)).values())


def _event(body: Body) -> event_pb2.Event:
    event = event_pb2.Event.FromString(body.body)
    if body.item_ids is not None:
        event.item_ids[:] = body.item_ids
    return event


def _settled(settlement: pool_pb2.Settlement) -> Settled:
    key = settlement.user_id, settlement.event_id
    reason = require_plain(settlement.reason, "reason")
    given = settlement.HasField("retry_time")
    retry_time = read_time(settlement.retry_time, "retry_time") if given else None
    if not settlement.end:
        return Settled(None, key, retry_time)
    ending = Ending(*key, End(settlement.end), reason, settlement.decision_id)
    return Settled(ending, key, retry_time)


def _read_place(token: str) -> tuple[datetime, str] | None:
    position = paging.decode(token, [str, str])
    if position is None:
        return None
    return paging.read_moment(position[0]), str(position[1])
