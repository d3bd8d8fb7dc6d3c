"""Users, items, interactions and relations; their changes; forgetting a user."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from google.protobuf.message import Message
from heliograph.candidate.v1alpha1 import catalogue_pb2
from heliograph.type.v1alpha1 import event_pb2

from services.candidate.attributes import ITEM_TYPE
from services.candidate.catalogue_store import Interaction, Record, Relation, RelationKind
from services.candidate.cursors import read_cursor
from services.candidate.events import Refusal
from services.candidate.expressions import AttributeType
from services.candidate.handlers.batches import Tally, judge
from services.candidate.handlers.parts import Calls, Context
from services.candidate.messages import (
    Refused,
    attribute_path,
    attribute_types,
    read_time,
    require_plain,
)

LEAST_WEIGHT = 1e-6
"""Weights are stored as 32-bit floats, which cannot hold the smallest 64-bit ones."""


Offered = TypeVar("Offered", bound=Message)
Value = TypeVar("Value")
Response = TypeVar("Response", bound=Message)


class CatalogueCalls(Calls):
    """UpsertUsers, UpsertItems, RecordInteractions, RecordRelations, WatchItems, EraseUser."""

    async def UpsertUsers(
        self, request_iterator: AsyncIterator[catalogue_pb2.UpsertUsersRequest], context: Context
    ) -> catalogue_pb2.UpsertUsersResponse:
        batches = (request.users async for request in request_iterator)
        put = self.parts.catalogue.put_users
        return await self._stored(batches, _user, put, catalogue_pb2.UpsertUsersResponse)

    async def UpsertItems(
        self, request_iterator: AsyncIterator[catalogue_pb2.UpsertItemsRequest], context: Context
    ) -> catalogue_pb2.UpsertItemsResponse:
        batches = (request.items async for request in request_iterator)
        put = self.parts.catalogue.put_items
        return await self._stored(batches, item_record, put, catalogue_pb2.UpsertItemsResponse)

    async def RecordInteractions(
        self,
        request_iterator: AsyncIterator[catalogue_pb2.RecordInteractionsRequest],
        context: Context,
    ) -> catalogue_pb2.RecordInteractionsResponse:
        batches = (request.interactions async for request in request_iterator)
        put = self.parts.catalogue.put_interactions
        response = catalogue_pb2.RecordInteractionsResponse
        return await self._stored(batches, _interaction, put, response)

    async def RecordRelations(
        self,
        request_iterator: AsyncIterator[catalogue_pb2.RecordRelationsRequest],
        context: Context,
    ) -> catalogue_pb2.RecordRelationsResponse:
        batches = (request.relations async for request in request_iterator)
        put = self.parts.catalogue.put_relations
        return await self._stored(batches, _relation, put, catalogue_pb2.RecordRelationsResponse)

    async def _stored(
        self,
        batches: AsyncIterator[Sequence[Offered]],
        read: Callable[[Offered], Value],
        put: Callable[[Sequence[Value], datetime], Awaitable[Mapping[int, Refusal]]],
        response: Callable[..., Response],
    ) -> Response:
        """Store what a stream brings, each batch committed before the next is read; `put` says what
        it refuses."""
        tally = Tally()
        async for offered in batches:
            batch = judge(offered, read, tally.offset)
            batch.refuse(await put(batch.values, self.parts.clock.now()))
            tally.add(batch.accepted, batch.rejections)
        return response(
            accepted_count=tally.accepted,
            rejected_count=tally.rejected,
            rejections=tally.rejections,
        )

    async def WatchItems(
        self, request: catalogue_pb2.WatchItemsRequest, context: Context
    ) -> AsyncIterator[catalogue_pb2.WatchItemsResponse]:
        position = read_cursor(request.cursor)
        while True:
            later = self.parts.catalogue.changes(position, embeddings=request.embeddings)
            async for changes in later:
                position = changes.position
                yield catalogue_pb2.WatchItemsResponse(
                    items=changes.items,
                    event_types=changes.event_types,
                    embeddings=changes.embeddings,
                    cursor=str(position),
                )
            if not request.follow:
                return
            await asyncio.sleep(self.parts.watch_interval.total_seconds())

    async def EraseUser(
        self, request: catalogue_pb2.EraseUserRequest, context: Context
    ) -> catalogue_pb2.EraseUserResponse:
        removed = await self.parts.catalogue.erase_user(request.user_id, self.parts.clock.now())
        return catalogue_pb2.EraseUserResponse(removed_count=removed)


def _user(user: event_pb2.User) -> Record:
    types = attribute_types(user.attributes)
    given = user.HasField("create_time")
    create_time = read_time(user.create_time, "create_time") if given else None
    user.ClearField("create_time")
    body = user.SerializeToString(deterministic=True)
    return Record(user.user_id, body, create_time, types=types)


def item_record(item: event_pb2.Item) -> Record:
    """An item as it is stored; takes out of the message what isn't content. Raises Refused."""
    types = attribute_types(item.attributes)
    if types.get(ITEM_TYPE, AttributeType.STRING) is not AttributeType.STRING:
        path = attribute_path(ITEM_TYPE)
        raise Refused(Refusal("INVALID_FIELD", f"{path} has to be a string", path))
    if item.item_type:
        types[ITEM_TYPE] = AttributeType.STRING
    given = item.HasField("create_time")
    create_time = read_time(item.create_time, "create_time") if given else None
    deleted = item.deleted
    for name in ("create_time", "content_version", "deleted"):
        item.ClearField(name)
    body = item.SerializeToString(deterministic=True)
    return Record(item.item_id, body, create_time, deleted, types)


def _interaction(interaction: event_pb2.Interaction) -> Interaction:
    if 0 < abs(interaction.weight) < LEAST_WEIGHT:
        message = f"weight is closer to 0 than {LEAST_WEIGHT:g}"
        raise Refused(Refusal("INVALID_FIELD", message, "weight"))
    return Interaction(
        user_id=interaction.user_id,
        item_id=interaction.item_id,
        interact_time=read_time(interaction.interact_time, "interact_time"),
        weight=interaction.weight or 1.0,
        kind=require_plain(interaction.kind or "view", "kind"),
        recommendation_id=interaction.recommendation_id,
    )


def _relation(relation: catalogue_pb2.Relation) -> Relation:
    if relation.user_id == relation.target_id:
        message = "target_id is the user, who has no relation with itself"
        raise Refused(Refusal("INVALID_FIELD", message, "target_id"))
    if 0 < relation.strength < LEAST_WEIGHT:
        message = f"strength is closer to 0 than {LEAST_WEIGHT:g}"
        raise Refused(Refusal("INVALID_FIELD", message, "strength"))
    return Relation(
        user_id=relation.user_id,
        kind=RelationKind(relation.kind),
        target_id=relation.target_id,
        strength=relation.strength or 1.0,
        removed=relation.removed,
    )
