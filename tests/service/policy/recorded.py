"""A running policy service at chosen moments, and rows that a decision would have written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from heliograph.policy.v1alpha1 import deliveries_pb2, feed_pb2, policy_pb2_grpc, recipients_pb2
from heliograph.type.v1alpha1 import event_pb2, notification_pb2
from sqlalchemy import text

from services.policy.timestamps import timestamp
from services.runtime.clock import at
from services.runtime.database import Database
from services.runtime.partitions import ensure_day_partitions

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
"""Ten in the morning for the recipients, who live in New York."""
PUSH = notification_pb2.CHANNEL_PUSH
EMAIL = notification_pb2.CHANNEL_EMAIL
IN_APP = notification_pb2.CHANNEL_IN_APP


@dataclass
class Sent:
    """A decision to send, and its delivery, as a test wants them stored."""

    key: str
    user_id: str = "ann"
    channel: int = PUSH
    decide_time: datetime = NOW
    expire_time: datetime | None = NOW + timedelta(days=1)
    event_type: str = "movie.suggestion"
    topic: str = "movies"
    campaign_id: str = ""
    critical: bool = False
    item_ids: tuple[str, ...] = ("m1",)
    day: date = field(init=False)

    def __post_init__(self) -> None:
        self.day = self.decide_time.date()

    @property
    def decision_id(self) -> str:
        return f"{self.day:%Y%m%d}.decision-{self.key}"

    @property
    def delivery_id(self) -> str:
        return f"{self.day:%Y%m%d}.delivery-{self.key}"


class Policy:
    """The service's calls at a moment, and its tables."""

    def __init__(self, stub: policy_pb2_grpc.PolicyServiceStub, database: Database) -> None:
        self.stub = stub
        self.database = database

    async def rows(self, statement: str, **params: Any) -> list[Any]:
        """What a query finds in the service's schema."""
        async with self.database.read() as work:
            return await work.rows(text(statement), params)

    async def upsert(
        self, *recipients: recipients_pb2.Recipient, moment: datetime = NOW
    ) -> recipients_pb2.UpsertRecipientsResponse:
        """UpsertRecipients with one batch."""
        request = recipients_pb2.UpsertRecipientsRequest(recipients=recipients)
        with at(moment):
            return await self.stub.UpsertRecipients(iter([request]))

    async def lease(
        self, owner: str = "pacer-1", moment: datetime = NOW, limit: int = 0
    ) -> deliveries_pb2.LeaseDeliveriesResponse:
        """LeaseDeliveries."""
        request = deliveries_pb2.LeaseDeliveriesRequest(owner=owner, limit=limit)
        with at(moment):
            return await self.stub.LeaseDeliveries(request)

    async def ack(
        self, *acks: deliveries_pb2.DeliveryAck, owner: str = "pacer-1", moment: datetime = NOW
    ) -> deliveries_pb2.AckDeliveriesResponse:
        """AckDeliveries."""
        with at(moment):
            return await self.stub.AckDeliveries(
                deliveries_pb2.AckDeliveriesRequest(owner=owner, acks=acks)
            )

    async def feed(self, cursor: str = "") -> list[feed_pb2.FeedEntry]:
        """All entries after a cursor."""
        answer = await self.stub.ReadFeed(feed_pb2.ReadFeedRequest(cursor=cursor, limit=10_000))
        return list(answer.entries)

    async def sends_of(self, user_id: str) -> list[str]:
        """Deliveries that count against a user's caps."""
        query = "SELECT send_deliveries FROM fatigue WHERE user_id = :user_id"
        (row,) = await self.rows(query, user_id=user_id)
        return list(row.send_deliveries)

    async def volume(self) -> dict[str, int]:
        """Volume by kind, over all cells."""
        rows = await self.rows("SELECT kind, sum(count) AS total FROM volume GROUP BY kind")
        return {row.kind: int(row.total) for row in rows}

    async def store(self, sends: Iterable[Sent]) -> None:
        """Store decisions to send, their deliveries, caps and volume, as Decide would."""
        sends = list(sends)
        async with self.database.unit_of_work() as work:
            for table in ("decisions", "outbox", "volume"):
                await ensure_day_partitions(work, table, {one.day for one in sends})
            await work.copy("decisions", list(_decision(sends[0])), map(_decision_row, sends))
            await work.copy("outbox", list(_delivery(sends[0])), map(_delivery_row, sends))
            for one in sends:
                if one.critical:
                    continue
                await work.execute(_COUNT_SEND, _send_params(one))
                await work.execute(_COUNT_VOLUME, {"day": one.day, "channel": one.channel})
            await work.commit()


def recipient(user_id: str = "ann", **fields: Any) -> recipients_pb2.Recipient:
    """A recipient opted in to and reachable through all channels."""
    defaults: dict[str, Any] = {
        "time_zone": "America/New_York",
        "opt_ins": [PUSH, EMAIL, IN_APP],
        "endpoints": [
            recipients_pb2.Endpoint(channel=PUSH, address=f"token-{user_id}"),
            recipients_pb2.Endpoint(channel=EMAIL, address=f"{user_id}@example.org"),
            recipients_pb2.Endpoint(channel=IN_APP, address=user_id),
        ],
        "create_time": timestamp(NOW - timedelta(days=100)),
    }
    return recipients_pb2.Recipient(user_id=user_id, **(defaults | fields))


def delivered(one: Sent, **fields: Any) -> deliveries_pb2.DeliveryAck:
    """A report that the channel took a delivery."""
    return deliveries_pb2.DeliveryAck(
        delivery_id=one.delivery_id, end=deliveries_pb2.DELIVERY_END_DELIVERED, **fields
    )


_COUNT_SEND = text(
    """
    UPDATE fatigue SET send_times = send_times || CAST(:time AS timestamptz),
        send_channels = send_channels || CAST(:channel AS smallint),
        send_deliveries = send_deliveries || CAST(:delivery_id AS text)
    WHERE user_id = :user_id
    """
)
_COUNT_VOLUME = text(
    """
    INSERT INTO volume (day, experiment_group, segment, channel, kind, count, record_time)
    VALUES (:day, 'default', 'casual', :channel, 'decided', 1, CAST(:day AS date))
    """
)


def _send_params(one: Sent) -> dict[str, Any]:
    return {
        "time": one.decide_time,
        "channel": one.channel,
        "delivery_id": one.delivery_id,
        "user_id": one.user_id,
    }


def _decision(one: Sent) -> dict[str, Any]:
    return {
        "day": one.day,
        "user_id": one.user_id,
        "slot_id": f"slot-{one.key}",
        "decision_id": one.decision_id,
        "slot_time": one.decide_time,
        "decide_time": one.decide_time,
        "send": True,
        "event_id": f"event-{one.key}",
        "event_type": one.event_type,
        "item_ids": list(one.item_ids),
        "channel": one.channel,
        "reason": "ABOVE_THRESHOLD",
        "arm": notification_pb2.ARM_POLICY,
        "arm_propensity": 0.99,
        "propensity": 0.99,
        "utility": 1.0,
        "threshold": 0.5,
        "segment": "casual",
        "experiment_group": "default",
        "delivery_id": one.delivery_id,
        "answer": b"",
        "explanation": b"",
    }


def _delivery(one: Sent) -> dict[str, Any]:
    event = event_pb2.Event(
        user_id=one.user_id,
        event_id=f"event-{one.key}",
        event_type=one.event_type,
        item_ids=one.item_ids,
        source_score=0.25,
    )
    return {
        "day": one.day,
        "delivery_id": one.delivery_id,
        "decision_id": one.decision_id,
        "user_id": one.user_id,
        "event_id": event.event_id,
        "event_type": one.event_type,
        "topic": one.topic,
        "campaign_id": one.campaign_id,
        "critical": one.critical,
        "event": event.SerializeToString(),
        "channel": one.channel,
        "locale": "en",
        "segment": "casual",
        "experiment_group": "default",
        "decide_time": one.decide_time,
        "expire_time": one.expire_time,
        "due_time": one.decide_time,
    }


def _decision_row(one: Sent) -> list[Any]:
    return list(_decision(one).values())


def _delivery_row(one: Sent) -> list[Any]:
    return list(_delivery(one).values())
