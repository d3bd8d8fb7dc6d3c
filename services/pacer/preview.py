"""Test messages: a real wording through a real channel, past every rule."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import TypeAlias

import grpc
from heliograph.candidate.v1alpha1 import catalogue_pb2
from heliograph.copygen.v1alpha1 import copygen_pb2
from heliograph.policy.v1alpha1 import recipients_pb2
from heliograph.type.v1alpha1 import event_pb2, notification_pb2

from services.pacer.clients import Clients
from services.pacer.convert import CHANNEL_NAMES
from services.pacer.messages import Adapter, Message, Outcome
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, FieldError, NotFound, Unavailable

Channel: TypeAlias = notification_pb2.Channel.ValueType


class Preview:
    """Words an event as it would be worded and delivers it, marked, to its user."""

    def __init__(self, clock: Clock, clients: Clients, adapters: Mapping[str, Adapter]) -> None:
        self._clock = clock
        self._clients = clients
        self._adapters = adapters

    async def send(self, event: event_pb2.Event, channel: Channel, locale: str) -> Message:
        """Deliver a test message; nothing is decided or stored beside the message itself.

        Raises NotFound (`UNKNOWN_EVENT_TYPE`, `UNKNOWN_USER`), FailedPrecondition
        (`CHANNEL_NOT_ALLOWED`, copygen's reason when the words can't be made, `NOT_DELIVERED`) and
        Unavailable.
        """
        await self._check_type(event, channel)
        context = await self._context(event.user_id)
        now = self._clock.now()
        delivery_id = f"{now:%Y%m%d}.preview-{secrets.token_hex(8)}"
        copy = await self._copy(delivery_id, event, channel, locale or context.locale, context)
        message = Message(
            delivery_id=delivery_id,
            decision_id="",
            user_id=event.user_id,
            event_id=event.event_id,
            event_type=event.event_type,
            item_ids=tuple(event.item_ids),
            channel=CHANNEL_NAMES[channel],
            address="",
            locale=locale or context.locale,
            title=copy.title,
            body=copy.body,
            variant_id=copy.variant_id,
            deliver_time=now,
            preview=True,
        )
        await self._deliver(message)
        return message

    async def _check_type(self, event: event_pb2.Event, channel: Channel) -> None:
        request = catalogue_pb2.GetEventTypeRequest(name=event.event_type)
        try:
            known = (await self._clients.candidate.GetEventType(request)).event_type
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            raise NotFound(
                f"no event type is named {event.event_type!r}",
                reason="UNKNOWN_EVENT_TYPE",
                fields=[FieldError("event.event_type", "must be a registered event type")],
            ) from error
        if channel not in known.channels:
            raise FailedPrecondition(
                f"event type {event.event_type!r} doesn't use this channel",
                reason="CHANNEL_NOT_ALLOWED",
                fields=[FieldError("channel", "must be one of the event type's channels")],
            )

    async def _context(self, user_id: str) -> recipients_pb2.UserContext:
        answer = await self._clients.policy.GetUserContexts(
            recipients_pb2.GetUserContextsRequest(user_ids=[user_id])
        )
        if not answer.contexts:
            raise NotFound(
                f"policy knows no recipient {user_id!r}",
                reason="UNKNOWN_USER",
                fields=[FieldError("event.user_id", "must be a stored recipient")],
            )
        return answer.contexts[0]

    async def _copy(
        self,
        delivery_id: str,
        event: event_pb2.Event,
        channel: Channel,
        locale: str,
        context: recipients_pb2.UserContext,
    ) -> copygen_pb2.Copy:
        key = copygen_pb2.DeliveryKey(
            delivery_id=delivery_id,
            user_id=event.user_id,
            event=event,
            channel=channel,
            locale=locale,
            segment=context.segment,
            style=context.copy_style,
        )
        answer = await self._clients.copygen.PickVariants(
            copygen_pb2.PickVariantsRequest(deliveries=[key], dry_run=True)
        )
        if answer.rejections:
            refused = answer.rejections[0]
            fields = [FieldError(wrong.field, wrong.description) for wrong in refused.fields]
            raise FailedPrecondition(refused.message, reason=refused.reason, fields=fields)
        return answer.copies[0]

    async def _deliver(self, message: Message) -> None:
        adapter = self._adapters[message.channel]
        (result,) = await adapter.deliver([message])
        if result.outcome in (Outcome.TEMPORARY, Outcome.THROTTLED):
            raise Unavailable(
                f"the adapter {adapter.name} failed: {result.error}",
                reason="NOT_DELIVERED",
                retry_after=timedelta(seconds=1),
            )
        if result.outcome is not Outcome.DELIVERED:
            raise FailedPrecondition(
                f"the adapter {adapter.name} refused: {result.error}", reason="NOT_DELIVERED"
            )
