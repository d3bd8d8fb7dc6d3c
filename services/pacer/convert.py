"""Between protos and the pacer's plain values."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.policy.v1alpha1 import deliveries_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.pacer.messages import Message

CHANNEL_NAMES = {
    notification_pb2.CHANNEL_PUSH: "push",
    notification_pb2.CHANNEL_EMAIL: "email",
    notification_pb2.CHANNEL_IN_APP: "in_app",
}
CHANNELS = {name: channel for channel, name in CHANNEL_NAMES.items()}


def to_time(timestamp: Timestamp) -> datetime:
    """Aware UTC time."""
    return timestamp.ToDatetime(tzinfo=UTC)


def to_timestamp(time: datetime) -> Timestamp:
    """The proto's form of an aware time."""
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def to_message(
    delivery: deliveries_pb2.Delivery, title: str, body: str, variant_id: str, now: datetime
) -> Message:
    """A leased delivery with its words, as an adapter takes it."""
    return Message(
        delivery_id=delivery.delivery_id,
        decision_id=delivery.decision_id,
        user_id=delivery.user_id,
        event_id=delivery.event.event_id,
        event_type=delivery.event.event_type,
        item_ids=tuple(delivery.event.item_ids),
        channel=CHANNEL_NAMES[delivery.channel],
        address=delivery.address,
        locale=delivery.locale,
        title=_storable(title),
        body=_storable(body),
        variant_id=variant_id,
        deliver_time=now,
    )


def _storable(words: str) -> str:
    """Without the null characters that Postgres and many channels refuse; a payload may hold them
    and one message must not fail its batch."""
    return words.replace("\0", "")
