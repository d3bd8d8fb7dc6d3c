"""Event types and the ways in for events."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from heliograph.candidate.v1alpha1 import catalogue_pb2, publishing_pb2

from services.candidate.events import Draft
from services.candidate.handlers.batches import Tally, judge_all, refused
from services.candidate.handlers.lanes import open_lanes
from services.candidate.handlers.parts import Calls, Context
from services.candidate.messages import read_drafts
from services.candidate.withdrawals import Decided
from services.runtime import paging

JUDGED_AT_A_TIME = 200
"""Events of a stream: some milliseconds, after which transactions under way get their answers."""


class PublishingCalls(Calls):
    """PutEventType to PublishEventStream, CancelEvents and CheckEvents."""

    async def PutEventType(
        self, request: catalogue_pb2.PutEventTypeRequest, context: Context
    ) -> catalogue_pb2.PutEventTypeResponse:
        now = self.parts.clock.now()
        stored = await self.parts.types.put(request.event_type, request.request_id, now)
        return catalogue_pb2.PutEventTypeResponse(event_type=stored)

    async def GetEventType(
        self, request: catalogue_pb2.GetEventTypeRequest, context: Context
    ) -> catalogue_pb2.GetEventTypeResponse:
        return catalogue_pb2.GetEventTypeResponse(
            event_type=await self.parts.types.get(request.name)
        )

    async def ListEventTypes(
        self, request: catalogue_pb2.ListEventTypesRequest, context: Context
    ) -> catalogue_pb2.ListEventTypesResponse:
        size = paging.page_size(request.page_size)
        position = paging.decode(request.page_token, [str])
        after = str(position[0]) if position else ""
        found = await self.parts.types.page(after, size + 1)
        token = paging.encode([found[size - 1].name]) if len(found) > size else ""
        return catalogue_pb2.ListEventTypesResponse(event_types=found[:size], next_page_token=token)

    async def PublishEvents(
        self, request: publishing_pb2.PublishEventsRequest, context: Context
    ) -> publishing_pb2.PublishEventsResponse:
        batch = judge_all(request.events, read_drafts)
        published = await self.parts.publisher.publish(batch.values, self.parts.clock.now())
        batch.refuse(published.refusals)
        return publishing_pb2.PublishEventsResponse(
            accepted_count=batch.accepted, rejections=batch.rejections
        )

    async def PublishEventStream(
        self,
        request_iterator: AsyncIterator[publishing_pb2.PublishEventStreamRequest],
        context: Context,
    ) -> publishing_pb2.PublishEventStreamResponse:
        tally, offset = Tally(), 0

        async def store(placed: Sequence[tuple[int, Draft]]) -> None:
            drafts = [draft for _, draft in placed]
            published = await self.parts.publisher.publish(drafts, self.parts.clock.now())
            refusals = published.refusals.items()
            rejections = [refused(placed[place][0], refusal) for place, refusal in refusals]
            tally.add(len(placed) - len(rejections), rejections)

        async with open_lanes(store) as lanes:
            async for request in request_iterator:
                parts: list[list[tuple[int, Draft]]] = [[] for _ in lanes]
                events = list(request.events)
                for start in range(0, len(events), JUDGED_AT_A_TIME):
                    some = events[start : start + JUDGED_AT_A_TIME]
                    batch = judge_all(some, read_drafts, offset)
                    offset += len(some)
                    tally.add(0, batch.rejections)
                    for placed in zip(batch.places, batch.values, strict=True):
                        parts[hash(placed[1].user_id) % len(lanes)].append(placed)
                    await asyncio.sleep(0)
                for lane, part in zip(lanes, parts, strict=True):
                    if part:
                        await lane.put(part)
        return publishing_pb2.PublishEventStreamResponse(
            accepted_count=tally.accepted,
            rejected_count=tally.rejected,
            rejections=tally.rejections,
        )

    async def CancelEvents(
        self, request: publishing_pb2.CancelEventsRequest, context: Context
    ) -> publishing_pb2.CancelEventsResponse:
        keys = {(key.user_id, key.event_id) for key in request.events}
        cancelled = await self.parts.pool.cancel(
            keys, set(request.item_ids), set(request.campaign_ids), self.parts.clock.now()
        )
        return publishing_pb2.CancelEventsResponse(cancelled_count=cancelled)

    async def CheckEvents(
        self, request: publishing_pb2.CheckEventsRequest, context: Context
    ) -> publishing_pb2.CheckEventsResponse:
        decided = [
            Decided(one.key.user_id, one.key.event_id, one.item_ids) for one in request.events
        ]
        withdrawn = await self.parts.pool.withdrawn(decided)
        return publishing_pb2.CheckEventsResponse(
            withdrawn=[
                publishing_pb2.EventKey(user_id=user, event_id=event) for user, event in withdrawn
            ]
        )
