"""LeaseDeliveries, AckDeliveries."""

from datetime import timedelta
from typing import Any

import grpc
from heliograph.policy.v1alpha1 import deliveries_pb2
from heliograph.type.v1alpha1 import event_pb2, notification_pb2

from services.policy.deliveries import Ack, End, Verdict
from services.policy.handlers.items import in_order, read_items, refused
from services.policy.outbox import Leased, Outbox
from services.policy.timestamps import moment, timestamp

DEFAULT_LIMIT = 500
DEFAULT_LEASE = timedelta(seconds=30)

Context = grpc.aio.ServicerContext[Any, Any]

_REFUSALS = {
    Verdict.UNKNOWN_DELIVERY: "no delivery with this id",
    Verdict.ALREADY_ENDED: "the delivery has ended otherwise; its first end stands",
    Verdict.NOT_LEASED: "the caller does not hold this delivery",
}


class DeliveryHandlers:
    """See the protos for what each call means."""

    outbox: Outbox

    async def LeaseDeliveries(
        self, request: deliveries_pb2.LeaseDeliveriesRequest, context: Context
    ) -> deliveries_pb2.LeaseDeliveriesResponse:
        duration = DEFAULT_LEASE
        if request.HasField("lease_duration"):
            duration = request.lease_duration.ToTimedelta()
        leased, dropped = await self.outbox.lease(
            request.owner, request.limit or DEFAULT_LIMIT, duration
        )
        return deliveries_pb2.LeaseDeliveriesResponse(
            deliveries=map(_delivery_message, leased), dropped_count=dropped.total()
        )

    async def AckDeliveries(
        self, request: deliveries_pb2.AckDeliveriesRequest, context: Context
    ) -> deliveries_pb2.AckDeliveriesResponse:
        good, rejections = read_items(request.acks, _ack)
        verdicts = await self.outbox.report(request.owner, list(good.values()))
        for index, verdict in zip(good, verdicts, strict=True):
            if verdict in _REFUSALS:
                rejections.append(refused(index, verdict, _REFUSALS[verdict]))
        return deliveries_pb2.AckDeliveriesResponse(
            accepted_count=len(request.acks) - len(rejections), rejections=in_order(rejections)
        )


def _ack(message: deliveries_pb2.DeliveryAck) -> Ack:
    end = End(message.end)
    return Ack(
        delivery_id=message.delivery_id,
        end=end,
        variant_id=message.variant_id,
        style=message.style,
        retry_time=moment(message.retry_time, "retry_time") if end is End.RETRY else None,
        error=message.error.replace("\0", "\ufffd"),  # Postgres keeps no NUL
    )


def _delivery_message(leased: Leased) -> deliveries_pb2.Delivery:
    delivery = leased.delivery
    message = deliveries_pb2.Delivery(
        delivery_id=delivery.delivery_id,
        decision_id=delivery.decision_id,
        user_id=delivery.user_id,
        event=event_pb2.Event.FromString(delivery.event),
        channel=notification_pb2.Channel.ValueType(delivery.channel),
        address=leased.address,
        locale=delivery.locale,
        segment=delivery.segment,
        copy_style=delivery.copy_style,
        attempt=delivery.attempt,
        decide_time=timestamp(delivery.decide_time),
    )
    if delivery.expire_time is not None:
        message.expire_time.CopyFrom(timestamp(delivery.expire_time))
    return message
