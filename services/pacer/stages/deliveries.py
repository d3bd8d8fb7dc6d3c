"""Deliveries on their way out: leased, worded, handed to a channel, reported."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import grpc
from heliograph.candidate.v1alpha1 import publishing_pb2
from heliograph.copygen.v1alpha1 import copygen_pb2
from heliograph.policy.v1alpha1 import deliveries_pb2

from services.pacer.backoff import RetryRule
from services.pacer.batches import BatchSize, cut
from services.pacer.clients import Clients
from services.pacer.convert import CHANNEL_NAMES, to_message, to_time, to_timestamp
from services.pacer.leases import Leases, Owner, is_too_large
from services.pacer.messages import Adapter, Message, Outcome, Result
from services.pacer.report import DELIVERIES, DROPPED, Report
from services.pacer.settings import PacerSettings
from services.pacer.stages.division import divided
from services.pacer.store.attempts import AttemptStore, MadeAttempt
from services.runtime.clock import Clock
from services.runtime.logs import Logger

LONGEST_ERROR = 1024


@dataclass(slots=True)
class Batch:
    """Leased deliveries, and what has become of each so far."""

    deliveries: Mapping[str, deliveries_pb2.Delivery]
    copies: dict[str, copygen_pb2.Copy] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)


class Deliveries:
    """One batch: LeaseDeliveries → CheckEvents → PickVariants → adapter by channel →
    AckDeliveries."""

    def __init__(
        self,
        settings: PacerSettings,
        clock: Clock,
        clients: Clients,
        adapters: Mapping[str, Adapter],
        attempts: AttemptStore,
        owner: Owner,
        leases: Leases,
        log: Logger,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._clients = clients
        self._adapters = adapters
        self._attempts = attempts
        self._owner = owner
        self._leases = leases
        self._log = log
        self._size = BatchSize(settings.batch_deliveries)
        self._rule = RetryRule(
            settings.retry_first,
            settings.retry_throttled,
            settings.retry_longest,
            settings.attempts_at_most,
        )

    async def step(self, report: Report) -> bool:
        """Take one batch; whether there was any. Raises Held."""
        async with self._leases.hold_rule():
            answer = await self._lease(report)
            if answer is None:
                return True
            batch = Batch({delivery.delivery_id: delivery for delivery in answer.deliveries})
            if not batch.deliveries:
                return answer.dropped_count > 0
            oldest = min(to_time(delivery.decide_time) for delivery in answer.deliveries)
            give_back = partial(self._give_back, list(batch.deliveries))
            async with self._leases.holding(len(batch.deliveries), give_back, oldest):
                await self._drop_withdrawn(batch, report)
                if batch.deliveries:
                    await self._pick(batch, report)
                    await self._deliver(batch, report)
                    await self._ack(batch, report)
            return True

    async def _lease(self, report: Report) -> deliveries_pb2.LeaseDeliveriesResponse | None:
        """None when the answer was too large, and fewer are to be asked for."""
        request = deliveries_pb2.LeaseDeliveriesRequest(
            owner=self._owner.name, limit=self._size.now
        )
        request.lease_duration.FromTimedelta(self._settings.lease)
        try:
            with report.timed("lease_deliveries") as total:
                answer = await self._clients.policy.LeaseDeliveries(request)
                total.count += len(answer.deliveries)
        except grpc.aio.AioRpcError as error:
            if is_too_large(error) and self._size.shrink():
                return None
            raise
        self._size.grow()
        report.dropped_count += answer.dropped_count
        DROPPED.inc(answer.dropped_count)
        return answer

    async def _drop_withdrawn(self, batch: Batch, report: Report) -> None:
        """Take deliveries whose events candidate has withdrawn since out of the batch, dropped."""
        events = {key: delivery.event for key, delivery in batch.deliveries.items()}
        keys = {(event.user_id, event.event_id): key for key, event in events.items()}
        asked = [
            publishing_pb2.DecidedEvent(
                key=publishing_pb2.EventKey(user_id=event.user_id, event_id=event.event_id),
                item_ids=event.item_ids,
            )
            for event in events.values()
        ]
        with report.timed("check", len(asked)):
            answer = await self._clients.candidate.CheckEvents(
                publishing_pb2.CheckEventsRequest(events=asked)
            )
        gone = {keys[key.user_id, key.event_id] for key in answer.withdrawn}
        if not gone:
            return
        end = deliveries_pb2.DELIVERY_END_WITHDRAWN
        acks = [deliveries_pb2.DeliveryAck(delivery_id=key, end=end) for key in sorted(gone)]
        await self._clients.policy.AckDeliveries(
            deliveries_pb2.AckDeliveriesRequest(owner=self._owner.name, acks=acks)
        )
        batch.deliveries = {k: d for k, d in batch.deliveries.items() if k not in gone}
        report.dropped_count += len(gone)
        DROPPED.inc(len(gone))

    async def _pick(self, batch: Batch, report: Report) -> None:
        """Words for all; those that can't be worded are failed attempts."""

        async def pick(deliveries: Sequence[deliveries_pb2.Delivery]) -> None:
            request = copygen_pb2.PickVariantsRequest(deliveries=map(_copy_key, deliveries))
            with report.timed("pick", len(deliveries)):
                answer = await self._clients.copygen.PickVariants(request)
            batch.copies |= {copy.delivery_id: copy for copy in answer.copies}
            for rejection in answer.rejections:
                delivery = deliveries[rejection.index]
                self._not_worded(batch, delivery, f"{rejection.reason}: {rejection.message}")

        async def spoiled(delivery: deliveries_pb2.Delivery, error: grpc.aio.AioRpcError) -> None:
            self._not_worded(batch, delivery, error.details() or "")

        deliveries = list(batch.deliveries.values())
        sizes = ((delivery.ByteSize(),) for delivery in deliveries)
        for part in cut(
            deliveries, sizes, [self._settings.bytes_per_call], self._settings.batch_deliveries
        ):
            await divided(part, pick, spoiled)

    def _not_worded(self, batch: Batch, delivery: deliveries_pb2.Delivery, error: str) -> None:
        self._log.error("a delivery can't be worded", delivery_id=delivery.delivery_id, error=error)
        key = delivery.delivery_id
        batch.results[key] = Result(key, Outcome.THROTTLED, error[:LONGEST_ERROR])

    async def _deliver(self, batch: Batch, report: Report) -> None:
        now = self._clock.now()
        messages: dict[str, list[Message]] = {}
        for key, copy in batch.copies.items():
            message = to_message(batch.deliveries[key], copy.title, copy.body, copy.variant_id, now)
            messages.setdefault(self._adapters[message.channel].name, []).append(message)
        adapters = {adapter.name: adapter for adapter in self._adapters.values()}
        with report.timed("deliver", len(batch.copies)):
            answers = await asyncio.gather(
                *(self._hand_over(adapters[name], given) for name, given in messages.items())
            )
        batch.results |= {result.delivery_id: result for some in answers for result in some}
        for key in batch.deliveries.keys() - batch.results.keys():
            batch.results[key] = Result(key, Outcome.TEMPORARY, "no answer")
        await self._record(batch)

    async def _hand_over(self, adapter: Adapter, messages: Sequence[Message]) -> Sequence[Result]:
        """An adapter that fails as a whole has failed for each of its messages."""
        try:
            return await adapter.deliver(messages)
        except Exception as error:
            self._log.exception("channel adapter failed", adapter=adapter.name)
            text = f"{type(error).__name__}: {error}"[:LONGEST_ERROR]
            return [Result(m.delivery_id, Outcome.TEMPORARY, text) for m in messages]

    async def _record(self, batch: Batch) -> None:
        made = []
        for key, delivery in batch.deliveries.items():
            result, channel = batch.results[key], CHANNEL_NAMES[delivery.channel]
            adapter = self._adapters[channel].name
            delivered = result.outcome is Outcome.DELIVERED
            DELIVERIES.labels(channel, adapter, result.outcome.value).inc()
            made.append(MadeAttempt(key, delivery.user_id, adapter, delivered, result.error))
        await self._attempts.add(made, self._clock.now())

    async def _ack(self, batch: Batch, report: Report) -> None:
        failed = [
            key for key, result in batch.results.items() if result.outcome is not Outcome.DELIVERED
        ]
        made = await self._attempts.counts(failed) if failed else {}
        acks = [self._report(batch, key, made.get(key, 1)) for key in batch.deliveries]
        with report.timed("ack", len(acks)):
            answer = await self._clients.policy.AckDeliveries(
                deliveries_pb2.AckDeliveriesRequest(owner=self._owner.name, acks=acks)
            )
        report.delivery_count += len(acks) - len(failed)
        if answer.rejections:
            self._log.warning(
                "acknowledgements rejected",
                count=len(answer.rejections),
                first=answer.rejections[0].reason,
            )

    def _report(self, batch: Batch, key: str, attempt: int) -> deliveries_pb2.DeliveryAck:
        result = batch.results[key]
        if result.outcome is Outcome.DELIVERED:
            copy = batch.copies[key]
            return deliveries_pb2.DeliveryAck(
                delivery_id=key,
                end=deliveries_pb2.DELIVERY_END_DELIVERED,
                variant_id=copy.variant_id,
                style=copy.style,
            )
        ack = deliveries_pb2.DeliveryAck(delivery_id=key, error=result.error)
        pause = self._rule.pause(result.outcome, key, attempt)
        if result.outcome is Outcome.UNREACHABLE:
            ack.end = deliveries_pb2.DELIVERY_END_UNREACHABLE
        elif pause is None:
            ack.end = deliveries_pb2.DELIVERY_END_DEAD
        else:
            ack.end = deliveries_pb2.DELIVERY_END_RETRY
            ack.retry_time.CopyFrom(to_timestamp(self._clock.now() + pause))
        return ack

    async def _give_back(self, delivery_ids: Sequence[str]) -> None:
        """At once. What a channel has taken already it will recognise by its key."""
        now = to_timestamp(self._clock.now())
        acks = [
            deliveries_pb2.DeliveryAck(
                delivery_id=key, end=deliveries_pb2.DELIVERY_END_RETRY, retry_time=now
            )
            for key in delivery_ids
        ]
        await self._clients.policy.AckDeliveries(
            deliveries_pb2.AckDeliveriesRequest(owner=self._owner.name, acks=acks)
        )


def _copy_key(delivery: deliveries_pb2.Delivery) -> copygen_pb2.DeliveryKey:
    return copygen_pb2.DeliveryKey(
        delivery_id=delivery.delivery_id,
        user_id=delivery.user_id,
        event=delivery.event,
        channel=delivery.channel,
        locale=delivery.locale,
        segment=delivery.segment,
        style=delivery.copy_style,
    )
