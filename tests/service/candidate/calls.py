"""Short forms of candidate's calls for its tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from heliograph.candidate.v1alpha1 import candidate_pb2 as pb
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc
from heliograph.type.v1alpha1 import event_pb2, notification_pb2

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
RANKED = event_pb2.ROUTE_RANKED
IMMEDIATE = event_pb2.ROUTE_IMMEDIATE
SCHEDULED = event_pb2.ROUTE_SCHEDULED


def stamp(moment: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def event_type(
    name: str, route: event_pb2.Route.ValueType = RANKED, window_s: int = 0, **fields: Any
) -> event_pb2.EventType:
    push = notification_pb2.CHANNEL_PUSH
    made = event_pb2.EventType(
        name=name,
        route=route,
        channels=[push],
        templates=[event_pb2.Template(channel=push, title="{{ item.title }}")],
        **fields,
    )
    if window_s:
        made.aggregation.window.CopyFrom(Duration(seconds=window_s))
    return made


def event(user: str, name: str, kind: str = "news", **fields: Any) -> event_pb2.Event:
    return event_pb2.Event(user_id=user, event_id=name, event_type=kind, **fields)


def interaction(
    user: str, item: str, weight: float = 1.0, moment: datetime = NOW - timedelta(days=1)
) -> event_pb2.Interaction:
    return event_pb2.Interaction(
        user_id=user, item_id=item, weight=weight, interact_time=stamp(moment)
    )


class Candidate:
    """One candidate service, called as its users do."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub: candidate_pb2_grpc.CandidateServiceAsyncStub
        self.stub = candidate_pb2_grpc.CandidateServiceStub(channel)

    async def prepare(
        self, users: Sequence[str] = (), items: Sequence[str] = (), kinds: Sequence[Any] = ()
    ) -> None:
        """Store users, items and event types."""
        if users:
            await self.users([event_pb2.User(user_id=name) for name in users])
        if items:
            await self.items([event_pb2.Item(item_id=name, title=name) for name in items])
        for kind in kinds:
            await self.stub.PutEventType(pb.PutEventTypeRequest(event_type=kind))

    async def users(self, users: Sequence[event_pb2.User]) -> pb.UpsertUsersResponse:
        return await self.stub.UpsertUsers(iter([pb.UpsertUsersRequest(users=users)]))

    async def items(self, items: Sequence[event_pb2.Item]) -> pb.UpsertItemsResponse:
        return await self.stub.UpsertItems(iter([pb.UpsertItemsRequest(items=items)]))

    async def interactions(
        self, interactions: Sequence[event_pb2.Interaction]
    ) -> pb.RecordInteractionsResponse:
        request = pb.RecordInteractionsRequest(interactions=interactions)
        return await self.stub.RecordInteractions(iter([request]))

    async def publish(self, *events: event_pb2.Event) -> pb.PublishEventsResponse:
        return await self.stub.PublishEvents(pb.PublishEventsRequest(events=events))

    async def pool(self, *users: str, limit: int = 0) -> dict[str, list[event_pb2.Event]]:
        request = pb.ReadPoolRequest(user_ids=users, limit_per_user=limit)
        answer = await self.stub.ReadPool(request)
        return {pool.user_id: list(pool.events) for pool in answer.pools}

    async def pool_ids(self, user: str) -> list[str]:
        return [event.event_id for event in (await self.pool(user)).get(user, [])]

    async def history(self, user: str) -> dict[str, pb.PoolEvent]:
        request = pb.ListUserEventsRequest(user_id=user, page_size=1000)
        answer = await self.stub.ListUserEvents(request)
        return {entry.event.event_id: entry for entry in answer.events}

    async def settle(self, *settlements: pb.Settlement) -> pb.SettlePoolResponse:
        return await self.stub.SettlePool(pb.SettlePoolRequest(settlements=settlements))

    async def settle_ready(self, *settlements: pb.Settlement) -> pb.SettleReadyResponse:
        return await self.stub.SettleReady(pb.SettleReadyRequest(settlements=settlements))

    async def lease(self, owner: str = "pacer", limit: int = 0) -> list[str]:
        request = pb.LeaseReadyRequest(owner=owner, limit=limit)
        return [event.event_id for event in (await self.stub.LeaseReady(request)).events]

    async def generate(self, **fields: Any) -> list[pb.GenerateDailyResponse]:
        request = pb.GenerateDailyRequest(**fields)
        return [progress async for progress in self.stub.GenerateDaily(request)]

    async def changes(self, cursor: str = "") -> list[pb.WatchItemsResponse]:
        request = pb.WatchItemsRequest(cursor=cursor)
        return [changes async for changes in self.stub.WatchItems(request)]


def sent(user: str, name: str, **fields: Any) -> pb.Settlement:
    end = notification_pb2.EVENT_END_SENT
    return pb.Settlement(user_id=user, event_id=name, end=end, **fields)


def reasons(rejections: Iterable[Any]) -> dict[int, str]:
    return {entry.index: entry.reason for entry in rejections}


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """ErrorInfo.reason of a failed call."""
    return next(_details(error, error_details_pb2.ErrorInfo)).reason


def fields_of(error: grpc.aio.AioRpcError) -> list[str]:
    """Paths of the fields that a failed call complains of."""
    return [
        violation.field
        for request in _details(error, error_details_pb2.BadRequest)
        for violation in request.field_violations
    ]


def _details(error: grpc.aio.AioRpcError, kind: Any) -> Any:
    packed = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    for detail in status_pb2.Status.FromString(packed).details:
        if detail.Is(kind.DESCRIPTOR):
            found = kind()
            detail.Unpack(found)
            yield found
