"""The pacer's RPCs: calls to the engine and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import grpc
from heliograph.pacer.v1alpha1 import pacer_pb2, pacer_pb2_grpc

from services.pacer import paging
from services.pacer.convert import CHANNELS, to_timestamp
from services.pacer.erasure import Erasure
from services.pacer.leases import Leases
from services.pacer.loop import Loop
from services.pacer.messages import Message
from services.pacer.preview import Preview
from services.pacer.report import STAGES, Report
from services.pacer.store.attempts import AttemptStore
from services.pacer.store.inbox import InboxStore
from services.pacer.store.slots import SlotRecord, SlotStore
from services.runtime.clock import Clock
from services.runtime.paging import page_size

Context = grpc.aio.ServicerContext[Any, Any]


class PacerHandler(pacer_pb2_grpc.PacerServiceServicer):
    """Serves PacerService."""

    def __init__(
        self,
        clock: Clock,
        loop: Loop,
        preview: Preview,
        erasure: Erasure,
        slots: SlotStore,
        inbox: InboxStore,
        attempts: AttemptStore,
        leases: dict[str, Leases],
    ) -> None:
        self._clock = clock
        self._loop = loop
        self._preview = preview
        self._erasure = erasure
        self._slots = slots
        self._inbox = inbox
        self._attempts = attempts
        self._leases = leases

    async def ProcessUsers(
        self, request: pacer_pb2.ProcessUsersRequest, context: Context
    ) -> pacer_pb2.ProcessUsersResponse:
        return _response(await self._loop.run_pass(request.user_ids, request.limit))

    async def GetBacklog(
        self, request: pacer_pb2.GetBacklogRequest, context: Context
    ) -> pacer_pb2.GetBacklogResponse:
        now = self._clock.now()
        waiting = await self._slots.backlog(now)
        stages = [self._in_hand("ready"), pacer_pb2.StageBacklog(stage="slots")]
        stages[1].due_count, stages[1].leased_count = waiting.due_count, waiting.leased_count
        if waiting.oldest_time is not None:
            stages[1].oldest_age.FromTimedelta(now - waiting.oldest_time)
        return pacer_pb2.GetBacklogResponse(stages=[*stages, self._in_hand("deliveries")])

    def _in_hand(self, stage: str) -> pacer_pb2.StageBacklog:
        leases = self._leases[stage]
        backlog = pacer_pb2.StageBacklog(stage=stage, leased_count=leases.in_hand)
        if leases.oldest is not None:
            age = max(self._clock.now() - leases.oldest, timedelta(0))
            backlog.oldest_age.FromTimedelta(age)
        return backlog

    async def PreviewEvent(
        self, request: pacer_pb2.PreviewEventRequest, context: Context
    ) -> pacer_pb2.PreviewEventResponse:
        sent = await self._preview.send(request.event, request.channel, request.locale)
        return pacer_pb2.PreviewEventResponse(message=_message(sent))

    async def ForgetUser(
        self, request: pacer_pb2.ForgetUserRequest, context: Context
    ) -> pacer_pb2.ForgetUserResponse:
        done, pending = await self._erasure.erase(request.user_id)
        return pacer_pb2.ForgetUserResponse(done_services=done, pending_services=pending)

    async def ReadInbox(
        self, request: pacer_pb2.ReadInboxRequest, context: Context
    ) -> pacer_pb2.ReadInboxResponse:
        before = paging.position_of(request.user_id, request.page_token)
        size = page_size(request.page_size)
        found = await self._inbox.page(request.user_id, before, size + 1)
        page = found[:size]
        response = pacer_pb2.ReadInboxResponse(messages=map(_message, page))
        if len(found) > size:
            last = page[-1].deliver_time, page[-1].delivery_id
            response.next_page_token = paging.token(request.user_id, last)
        return response

    async def ListSlots(
        self, request: pacer_pb2.ListSlotsRequest, context: Context
    ) -> pacer_pb2.ListSlotsResponse:
        before = paging.position_of(request.user_id, request.page_token)
        size = page_size(request.page_size)
        found = await self._slots.page(request.user_id, before, size + 1)
        page = found[:size]
        response = pacer_pb2.ListSlotsResponse(slots=map(_slot, page))
        if len(found) > size:
            last = page[-1].slot_time, page[-1].slot_id
            response.next_page_token = paging.token(request.user_id, last)
        return response

    async def ListAttempts(
        self, request: pacer_pb2.ListAttemptsRequest, context: Context
    ) -> pacer_pb2.ListAttemptsResponse:
        found = await self._attempts.find(request.delivery_ids)
        return pacer_pb2.ListAttemptsResponse(
            attempts=[
                pacer_pb2.Attempt(
                    delivery_id=made.delivery_id,
                    attempt=made.attempt,
                    adapter=made.adapter,
                    attempt_time=to_timestamp(made.attempt_time),
                    delivered=made.delivered,
                    error=made.error,
                )
                for made in found
            ]
        )


def _response(report: Report) -> pacer_pb2.ProcessUsersResponse:
    response = pacer_pb2.ProcessUsersResponse(
        slot_count=report.slot_count,
        ready_count=report.ready_count,
        send_count=report.send_count,
        delivery_count=report.delivery_count,
        dropped_count=report.dropped_count,
    )
    for name in STAGES:
        if total := report.stages.get(name):
            stage = response.stages.add(stage=name, count=total.count)
            stage.wall_time.FromTimedelta(timedelta(seconds=total.seconds))
    return response


def _message(message: Message) -> pacer_pb2.InboxMessage:
    return pacer_pb2.InboxMessage(
        delivery_id=message.delivery_id,
        decision_id=message.decision_id,
        user_id=message.user_id,
        event_id=message.event_id,
        event_type=message.event_type,
        item_ids=message.item_ids,
        channel=CHANNELS[message.channel],
        title=message.title,
        body=message.body,
        variant_id=message.variant_id,
        deliver_time=to_timestamp(message.deliver_time),
        preview=message.preview,
    )


def _slot(slot: SlotRecord) -> pacer_pb2.Slot:
    processed = None if slot.process_time is None else to_timestamp(slot.process_time)
    return pacer_pb2.Slot(
        user_id=slot.user_id,
        slot_id=slot.slot_id,
        slot_time=to_timestamp(slot.slot_time),
        process_time=processed,
        decision_id=slot.decision_id,
    )
