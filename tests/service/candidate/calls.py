"""Short forms of candidate's calls for its tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from heliograph.candidate.v1alpha1 import (
    candidate_pb2_grpc,
    catalogue_pb2,
    generating_pb2,
    pool_pb2,
    publishing_pb2,
)
from heliograph.type.v1alpha1 import event_pb2, notification_pb2

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
RANKED = event_pb2.ROUTE_RANKED
IMMEDIATE = event_pb2.ROUTE_IMMEDIATE
SCHEDULED = event_pb2.ROUTE_SCHEDULED
USERS = [f"u{number:02}" for number in range(20)]
ITEMS = [f"i{number:02}" for number in range(12)]
"""Of the fixture `world`."""


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


def follows(
    user: str, target: str, strength: float = 0.0, *, removed: bool = False
) -> catalogue_pb2.Relation:
    return catalogue_pb2.Relation(
        user_id=user,
        kind=catalogue_pb2.RELATION_KIND_FOLLOWS,
        target_id=target,
        strength=strength,
        removed=removed,
    )


def friend(
    user: str, target: str, strength: float = 0.0, *, removed: bool = False
) -> catalogue_pb2.Relation:
    made = follows(user, target, strength, removed=removed)
    made.kind = catalogue_pb2.RELATION_KIND_FRIEND
    return made


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
            await self.stub.PutEventType(catalogue_pb2.PutEventTypeRequest(event_type=kind))

    async def users(self, users: Sequence[event_pb2.User]) -> catalogue_pb2.UpsertUsersResponse:
        return await self.stub.UpsertUsers(iter([catalogue_pb2.UpsertUsersRequest(users=users)]))

    async def items(self, items: Sequence[event_pb2.Item]) -> catalogue_pb2.UpsertItemsResponse:
        return await self.stub.UpsertItems(iter([catalogue_pb2.UpsertItemsRequest(items=items)]))

    async def interactions(
        self, interactions: Sequence[event_pb2.Interaction]
    ) -> catalogue_pb2.RecordInteractionsResponse:
        request = catalogue_pb2.RecordInteractionsRequest(interactions=interactions)
        return await self.stub.RecordInteractions(iter([request]))

    async def relations(
        self, *relations: catalogue_pb2.Relation
    ) -> catalogue_pb2.RecordRelationsResponse:
        request = catalogue_pb2.RecordRelationsRequest(relations=relations)
        return await self.stub.RecordRelations(iter([request]))

    async def publish(self, *events: event_pb2.Event) -> publishing_pb2.PublishEventsResponse:
        return await self.stub.PublishEvents(publishing_pb2.PublishEventsRequest(events=events))

    async def pool(self, *users: str, limit: int = 0) -> dict[str, list[event_pb2.Event]]:
        request = pool_pb2.ReadPoolRequest(user_ids=users, limit_per_user=limit)
        answer = await self.stub.ReadPool(request)
        return {pool.user_id: list(pool.events) for pool in answer.pools}

    async def pool_ids(self, user: str) -> list[str]:
        return [event.event_id for event in (await self.pool(user)).get(user, [])]

    async def history(self, user: str) -> dict[str, pool_pb2.PoolEvent]:
        request = publishing_pb2.ListUserEventsRequest(user_id=user, page_size=1000)
        answer = await self.stub.ListUserEvents(request)
        return {entry.event.event_id: entry for entry in answer.events}

    async def settle(self, *settlements: pool_pb2.Settlement) -> pool_pb2.SettlePoolResponse:
        return await self.stub.SettlePool(pool_pb2.SettlePoolRequest(settlements=settlements))

    async def settle_ready(self, *settlements: pool_pb2.Settlement) -> pool_pb2.SettleReadyResponse:
        return await self.stub.SettleReady(pool_pb2.SettleReadyRequest(settlements=settlements))

    async def lease(self, owner: str = "pacer", limit: int = 0) -> list[str]:
        request = pool_pb2.LeaseReadyRequest(owner=owner, limit=limit)
        return [event.event_id for event in (await self.stub.LeaseReady(request)).events]

    async def generate(self, **fields: Any) -> list[generating_pb2.GenerateDailyResponse]:
        request = generating_pb2.GenerateDailyRequest(**fields)
        return [progress async for progress in self.stub.GenerateDaily(request)]

    async def changes(self, cursor: str = "") -> list[catalogue_pb2.WatchItemsResponse]:
        request = catalogue_pb2.WatchItemsRequest(cursor=cursor)
        return [changes async for changes in self.stub.WatchItems(request)]


def sent(user: str, name: str, **fields: Any) -> pool_pb2.Settlement:
    end = notification_pb2.EVENT_END_SENT
    return pool_pb2.Settlement(user_id=user, event_id=name, end=end, **fields)


def reasons(rejections: Iterable[Any]) -> dict[int, str]:
    return {entry.index: entry.reason for entry in rejections}


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """ErrorInfo.reason of a failed call."""
    return next(_details(error, error_details_pb2.ErrorInfo)).reason


def metadata_of(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """ErrorInfo.metadata of a failed call."""
    return dict(next(_details(error, error_details_pb2.ErrorInfo)).metadata)


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
