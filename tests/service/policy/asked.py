"""Requests to decide, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from heliograph.policy.v1alpha1 import decide_pb2
from heliograph.type.v1alpha1 import event_pb2, notification_pb2

from services.policy.timestamps import timestamp
from services.runtime.clock import at
from tests.service.policy.recorded import EMAIL, IN_APP, PUSH, Policy

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
"""Ten in the morning for the recipients, who live in New York."""
NIGHT = datetime(2026, 1, 6, 4, 0, tzinfo=UTC)

HEADS = (
    notification_pb2.HEAD_PUSH_OPEN,
    notification_pb2.HEAD_EMAIL_CLICK,
    notification_pb2.HEAD_INAPP_CLICK,
)
ALL = (PUSH, EMAIL, IN_APP)


def event_type(
    name: str = "movie.suggestion",
    channels: Sequence[notification_pb2.Channel.ValueType] = (PUSH, EMAIL),
    *,
    route: event_pb2.Route.ValueType = event_pb2.ROUTE_RANKED,
    critical: bool = False,
    in_app_fallback: bool = False,
    topic: str = "movies",
) -> event_pb2.EventType:
    templates = [event_pb2.Template(channel=channel, title="t") for channel in channels]
    return event_pb2.EventType(
        name=name,
        route=route,
        channels=channels,
        templates=templates,
        critical=critical,
        in_app_fallback=in_app_fallback,
        topic=topic,
    )


RANKED = event_type()
READY = event_type("friend.message", route=event_pb2.ROUTE_IMMEDIATE, topic="friends")
CRITICAL = event_type("security.code", route=event_pb2.ROUTE_IMMEDIATE, critical=True, topic="")
TYPES = (RANKED, READY, CRITICAL)


def event(
    event_id: str,
    user_id: str = "ann",
    kind: str = RANKED.name,
    expire_time: datetime | None = NOW + timedelta(days=3),
) -> event_pb2.Event:
    return event_pb2.Event(
        user_id=user_id,
        event_id=event_id,
        event_type=kind,
        item_ids=[f"item-{event_id}"],
        expire_time=None if expire_time is None else timestamp(expire_time),
    )


def slot(
    *events: event_pb2.Event,
    user_id: str = "ann",
    time: datetime = NOW,
    scores: Sequence[float] | None = None,
    slot_id: str = "",
) -> decide_pb2.Slot:
    """A ranked slot; by default earlier events score higher, and push higher than e-mail."""
    given = scores
    if given is None:
        given = [
            value
            for place in range(len(events))
            for value in (0.5 / (place + 1), 0.25 / (place + 1), 0.1 / (place + 1))
        ]
    return decide_pb2.Slot(
        user_id=user_id,
        slot_id=slot_id or f"{time:%Y%m%dT%H%M}",
        slot_time=timestamp(time),
        rank_id="rank-1",
        model_version="v1",
        events=events,
        scores=given,
    )


def ready(one: event_pb2.Event, time: datetime = NOW) -> decide_pb2.Slot:
    """The slot of a ready event."""
    return decide_pb2.Slot(
        user_id=one.user_id,
        slot_id=f"event:{one.event_id}",
        slot_time=timestamp(time),
        events=[one],
    )


async def decide(
    policy: Policy,
    *slots: decide_pb2.Slot,
    moment: datetime = NOW,
    types: Sequence[event_pb2.EventType] = TYPES,
    dry_run: bool = False,
    trained: Sequence[notification_pb2.Head.ValueType] = (),
) -> decide_pb2.DecideResponse:
    """Decide at a moment."""
    request = decide_pb2.DecideRequest(
        slots=slots, event_types=types, heads=HEADS, trained_heads=trained, dry_run=dry_run
    )
    with at(moment):
        return await policy.stub.Decide(request)
