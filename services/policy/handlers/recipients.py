"""UpsertRecipients, PutPreferences, Snooze, GetUserContexts."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from heliograph.policy.v1alpha1 import recipients_pb2
from heliograph.type.v1alpha1 import notification_pb2, status_pb2

from services.policy.contexts import UserContext
from services.policy.handlers.items import read_items
from services.policy.preferences import PreferenceChange, Preferences, QuietHours
from services.policy.recipient_store import Endpoint, Recipient
from services.policy.recipients import Recipients
from services.policy.slots import is_time_zone
from services.policy.timestamps import moment, timestamp
from services.runtime.errors import FieldError, InvalidArgument

DEFAULT_TIME_ZONE = "UTC"
DEFAULT_LOCALE = "en"
MOST_REJECTIONS = 1000

Context = grpc.aio.ServicerContext[Any, Any]
Channel = notification_pb2.Channel


class RecipientHandlers:
    """See the protos for what each call means."""

    recipients: Recipients
    default_quiet_hours: QuietHours

    async def UpsertRecipients(
        self, requests: AsyncIterator[recipients_pb2.UpsertRecipientsRequest], context: Context
    ) -> recipients_pb2.UpsertRecipientsResponse:
        seen = accepted = 0
        rejections: list[status_pb2.Rejection] = []
        async for request in requests:
            good, bad = read_items(request.recipients, _recipient, first_index=seen)
            await self.recipients.upsert(list(good.values()))
            seen += len(request.recipients)
            accepted += len(good)
            rejections.extend(bad[: MOST_REJECTIONS - len(rejections)])
        return recipients_pb2.UpsertRecipientsResponse(
            accepted_count=accepted, rejected_count=seen - accepted, rejections=rejections
        )

    async def PutPreferences(
        self, request: recipients_pb2.PutPreferencesRequest, context: Context
    ) -> recipients_pb2.PutPreferencesResponse:
        stored = await self.recipients.put_preferences(
            request.user_id, _change(request.preferences)
        )
        answer = _preferences_message(stored, self.default_quiet_hours)
        return recipients_pb2.PutPreferencesResponse(preferences=answer)

    async def Snooze(
        self, request: recipients_pb2.SnoozeRequest, context: Context
    ) -> recipients_pb2.SnoozeResponse:
        until_time = moment(request.until_time, "until_time")
        await self.recipients.snooze(request.user_id, until_time)
        return recipients_pb2.SnoozeResponse()

    async def GetUserContexts(
        self, request: recipients_pb2.GetUserContextsRequest, context: Context
    ) -> recipients_pb2.GetUserContextsResponse:
        found = await self.recipients.contexts(request.user_ids)
        return recipients_pb2.GetUserContextsResponse(contexts=map(_context_message, found))


def _recipient(message: recipients_pb2.Recipient) -> Recipient:
    if message.time_zone and not is_time_zone(message.time_zone):
        problem = f"no time zone {message.time_zone!r}; use an IANA name, e.g. Europe/Berlin"
        raise InvalidArgument(
            problem, reason="UNKNOWN_TIME_ZONE", fields=[FieldError("time_zone", problem)]
        )
    joined = message.HasField("create_time")
    return Recipient(
        user_id=message.user_id,
        time_zone=message.time_zone or DEFAULT_TIME_ZONE,
        locale=message.locale or DEFAULT_LOCALE,
        opt_ins=tuple(message.opt_ins),
        endpoints=tuple(
            Endpoint(one.channel, one.address, one.unreachable) for one in message.endpoints
        ),
        create_time=moment(message.create_time, "create_time") if joined else None,
        slot_hours=tuple(message.slot_hours),
    )


def _change(message: recipients_pb2.Preferences) -> PreferenceChange:
    quiet = message.quiet_hours
    return PreferenceChange(
        topics=dict(message.muted_topics),
        channels={Channel.Value(name): off for name, off in message.muted_channels.items()},
        quiet_hours=QuietHours(quiet.start_minute, quiet.end_minute)
        if message.HasField("quiet_hours")
        else None,
    )


def _preferences_message(
    preferences: Preferences, default_quiet_hours: QuietHours
) -> recipients_pb2.Preferences:
    quiet = preferences.quiet_hours or default_quiet_hours
    return recipients_pb2.Preferences(
        muted_topics=dict.fromkeys(preferences.muted_topics, True),
        muted_channels={
            Channel.Name(Channel.ValueType(channel)): True for channel in preferences.muted_channels
        },
        quiet_hours=recipients_pb2.QuietHours(
            start_minute=quiet.start_minute, end_minute=quiet.end_minute
        ),
    )


def _context_message(context: UserContext) -> recipients_pb2.UserContext:
    membership = context.membership
    return recipients_pb2.UserContext(
        user_id=context.user_id,
        segment=context.segment,
        time_zone=context.time_zone,
        locale=context.locale,
        experiments=membership.groups,
        experiment_version=membership.version,
        model_version=membership.model_version,
        copy_style=membership.copy_style,
        hour_profile=context.hours.tolist(),
        next_slot_times=[timestamp(slot) for slot in context.next_slots],
    )
