"""Users, items and interactions; their changes; forgetting a user."""

import asyncio
from collections.abc import AsyncIterator

from heliograph.candidate.v1alpha1 import candidate_pb2 as pb
from heliograph.type.v1alpha1 import event_pb2

from services.candidate.catalogue_store import Interaction, Record
from services.candidate.cursors import read_cursor
from services.candidate.events import Refusal
from services.candidate.handlers.batches import Tally, judge
from services.candidate.handlers.parts import Calls, Context
from services.candidate.messages import Refused, check_attributes, read_time, require_plain

LEAST_WEIGHT = 1e-6
"""Weights are stored as 32-bit floats, which cannot hold the smallest 64-bit ones."""


class CatalogueCalls(Calls):
    """UpsertUsers, UpsertItems, RecordInteractions, WatchItems, EraseUser."""

    async def UpsertUsers(
        self, request_iterator: AsyncIterator[pb.UpsertUsersRequest], context: Context
    ) -> pb.UpsertUsersResponse:
        tally = Tally()
        async for request in request_iterator:
            batch = judge(request.users, _user, tally.offset)
            await self.parts.catalogue.put_users(batch.values, self.parts.clock.now())
            tally.add(batch.accepted, batch.rejections)
        return pb.UpsertUsersResponse(
            accepted_count=tally.accepted,
            rejected_count=tally.rejected,
            rejections=tally.rejections,
        )

    async def UpsertItems(
        self, request_iterator: AsyncIterator[pb.UpsertItemsRequest], context: Context
    ) -> pb.UpsertItemsResponse:
        tally = Tally()
        async for request in request_iterator:
            batch = judge(request.items, _item, tally.offset)
            await self.parts.catalogue.put_items(batch.values, self.parts.clock.now())
            tally.add(batch.accepted, batch.rejections)
        return pb.UpsertItemsResponse(
            accepted_count=tally.accepted,
            rejected_count=tally.rejected,
            rejections=tally.rejections,
        )

    async def RecordInteractions(
        self, request_iterator: AsyncIterator[pb.RecordInteractionsRequest], context: Context
    ) -> pb.RecordInteractionsResponse:
        tally = Tally()
        async for request in request_iterator:
            batch = judge(request.interactions, _interaction, tally.offset)
            now = self.parts.clock.now()
            batch.refuse(await self.parts.catalogue.put_interactions(batch.values, now))
            tally.add(batch.accepted, batch.rejections)
        return pb.RecordInteractionsResponse(
            accepted_count=tally.accepted,
            rejected_count=tally.rejected,
            rejections=tally.rejections,
        )

    async def WatchItems(
        self, request: pb.WatchItemsRequest, context: Context
    ) -> AsyncIterator[pb.WatchItemsResponse]:
        position = read_cursor(request.cursor)
        while True:
            async for changes in self.parts.catalogue.changes(position):
                position = changes.position
                yield pb.WatchItemsResponse(
                    items=changes.items, event_types=changes.event_types, cursor=str(position)
                )
            if not request.follow:
                return
            await asyncio.sleep(self.parts.watch_interval.total_seconds())

    async def EraseUser(
        self, request: pb.EraseUserRequest, context: Context
    ) -> pb.EraseUserResponse:
        removed = await self.parts.catalogue.erase_user(request.user_id, self.parts.clock.now())
        return pb.EraseUserResponse(removed_count=removed)


def _user(user: event_pb2.User) -> Record:
    check_attributes(user.attributes)
    given = user.HasField("create_time")
    create_time = read_time(user.create_time, "create_time") if given else None
    user.ClearField("create_time")
    return Record(user.user_id, user.SerializeToString(deterministic=True), create_time)


def _item(item: event_pb2.Item) -> Record:
    check_attributes(item.attributes)
    given = item.HasField("create_time")
    create_time = read_time(item.create_time, "create_time") if given else None
    deleted = item.deleted
    for name in ("create_time", "content_version", "deleted"):
        item.ClearField(name)
    return Record(item.item_id, item.SerializeToString(deterministic=True), create_time, deleted)


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
    )
