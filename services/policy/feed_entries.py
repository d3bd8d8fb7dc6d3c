"""Feed entries: the messages that say what happened, ready to be stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from heliograph.policy.v1alpha1 import feed_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.policy.timestamps import timestamp

Channel = notification_pb2.Channel
Kind = notification_pb2.EngagementKind


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: whose it is, and the FeedEntry message as bytes."""

    user_id: str
    message: bytes


@dataclass(frozen=True, slots=True)
class Notification:
    """What entries about one notification have in common."""

    user_id: str
    decision_id: str
    delivery_id: str
    event_id: str
    event_type: str
    item_ids: Sequence[str]
    channel: int


def send(
    sent: Notification, time: datetime, *, source_score: float, variant_id: str, style: str
) -> Entry:
    """A delivery was handed to its channel."""
    entry = feed_pb2.SendEntry(
        delivery_id=sent.delivery_id,
        decision_id=sent.decision_id,
        event_id=sent.event_id,
        event_type=sent.event_type,
        item_ids=sent.item_ids,
        channel=Channel.ValueType(sent.channel),
        variant_id=variant_id,
        style=style,
        source_score=source_score,
    )
    return _sealed(feed_pb2.FeedEntry(send=entry), sent.user_id, time)


def drop(dropped: Notification, time: datetime, reason: str) -> Entry:
    """A delivery was dropped late or given up."""
    entry = feed_pb2.DropEntry(
        delivery_id=dropped.delivery_id,
        decision_id=dropped.decision_id,
        event_id=dropped.event_id,
        reason=reason,
    )
    return _sealed(feed_pb2.FeedEntry(drop=entry), dropped.user_id, time)


def engagement(
    about: Notification,
    time: datetime,
    *,
    engagement_id: str,
    kind: int,
    decide_time: datetime,
    segment: str,
) -> Entry:
    """A user did something with a notification."""
    entry = feed_pb2.EngagementEntry(
        engagement_id=engagement_id,
        decision_id=about.decision_id,
        kind=Kind.ValueType(kind),
        event_id=about.event_id,
        event_type=about.event_type,
        item_ids=about.item_ids,
        channel=Channel.ValueType(about.channel),
        decide_time=timestamp(decide_time),
        segment=segment,
    )
    return _sealed(feed_pb2.FeedEntry(engagement=entry), about.user_id, time)


def session(user_id: str, time: datetime, session_id: str, *, app_deleted: bool) -> Entry:
    """A user had a session, or deleted the app."""
    entry = feed_pb2.SessionEntry(session_id=session_id, app_deleted=app_deleted)
    return _sealed(feed_pb2.FeedEntry(session=entry), user_id, time)


def _sealed(entry: feed_pb2.FeedEntry, user_id: str, time: datetime) -> Entry:
    entry.user_id = user_id
    entry.event_time.CopyFrom(timestamp(time))
    return Entry(user_id, entry.SerializeToString())
