"""The way out: words, channels, retries, dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import grpc
import pytest
from heliograph.pacer.v1alpha1 import pacer_pb2
from heliograph.policy.v1alpha1 import deliveries_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.pacer.adapters.inbox import InboxAdapter
from services.pacer.messages import Message, Outcome, Result
from tests.service.pacer.conftest import MORNING, Pacer
from tests.service.pacer.peers import DeliveryState, Peers


class Channel:
    """What the inbox adapter answers instead of delivering."""

    def __init__(self, outcome: Outcome | None = None, failure: Exception | None = None) -> None:
        self.outcome = outcome
        self.failure = failure

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(InboxAdapter, "deliver", self.deliver)

    async def deliver(self, messages: Sequence[Message]) -> list[Result]:
        if self.failure is not None:
            raise self.failure
        assert self.outcome is not None
        return [Result(m.delivery_id, self.outcome, "no luck") for m in messages]


@pytest.fixture
def delivery(peers: Peers) -> DeliveryState:
    """A delivery in the outbox, due in the morning."""
    made = deliveries_pb2.Delivery(
        delivery_id="20260105.d1",
        decision_id="20260105.x",
        user_id="ann",
        channel=notification_pb2.CHANNEL_PUSH,
    )
    made.event.user_id, made.event.event_id, made.event.event_type = "ann", "e1", "alert"
    made.decide_time.FromDatetime(MORNING)
    state = peers.deliveries[made.delivery_id] = DeliveryState(made, MORNING)
    return state


async def attempts(pacer: Pacer) -> list[pacer_pb2.Attempt]:
    request = pacer_pb2.ListAttemptsRequest(delivery_ids=["20260105.d1"])
    return list((await pacer.stub.ListAttempts(request)).attempts)


async def run_until_ended(pacer: Pacer, delivery: DeliveryState) -> list[datetime]:
    """Process whenever the delivery is due; the times."""
    times: list[datetime] = []
    while delivery.end is None and len(times) < 50:
        times.append(delivery.due)
        await pacer.process(delivery.due)
    return times


async def test_delivered_is_acknowledged_with_its_words(
    pacer: Pacer, delivery: DeliveryState
) -> None:
    answer = await pacer.process(MORNING)
    assert answer.delivery_count == 1
    assert delivery.end is not None
    assert delivery.end.end == deliveries_pb2.DELIVERY_END_DELIVERED
    assert delivery.end.variant_id == "template"
    (attempt,) = await attempts(pacer)
    assert (attempt.attempt, attempt.adapter, attempt.delivered) == (1, "inbox", True)


async def test_what_is_withdrawn_is_dropped_before_a_channel_has_it(
    pacer: Pacer, peers: Peers, delivery: DeliveryState
) -> None:
    other = deliveries_pb2.Delivery()
    other.CopyFrom(delivery.delivery)
    other.delivery_id, other.event.event_id = "20260105.d2", "e2"
    other.event.item_ids[:] = ["x", "y"]
    peers.deliveries[other.delivery_id] = DeliveryState(other, MORNING)
    peers.withdrawn.add("e1")
    answer = await pacer.process(MORNING)
    assert (answer.delivery_count, answer.dropped_count) == (1, 1)
    assert delivery.end is not None
    assert delivery.end.end == deliveries_pb2.DELIVERY_END_WITHDRAWN
    assert [message.event_id for message in await pacer.inbox("ann")] == ["e2"]
    assert not await attempts(pacer)
    (asked,) = peers.requests["CheckEvents"]  # one call for the batch
    assert {(one.key.event_id, *one.item_ids) for one in asked.events} == {
        ("e1",),
        ("e2", "x", "y"),
    }


async def test_deliveries_wait_while_candidate_is_down(
    pacer: Pacer, peers: Peers, delivery: DeliveryState
) -> None:
    peers.refuse["CheckEvents"] = grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.aio.AioRpcError):
        await pacer.process(MORNING)
    assert not await pacer.inbox("ann")
    peers.refuse.clear()
    assert (await pacer.process(MORNING)).delivery_count == 1


async def test_failures_are_retried_with_growing_pauses_and_end_dead(
    pacer: Pacer, delivery: DeliveryState, monkeypatch: pytest.MonkeyPatch
) -> None:
    Channel(failure=OSError("disk full")).install(monkeypatch)
    times = await run_until_ended(pacer, delivery)
    assert len(times) == 8
    assert delivery.end is not None
    assert delivery.end.end == deliveries_pb2.DELIVERY_END_DEAD
    assert delivery.end.error == "OSError: disk full"
    pauses = [later - sooner for sooner, later in pairwise(times)]
    for number, pause in enumerate(pauses):
        full = timedelta(seconds=5) * 2**number
        assert full / 2 <= pause <= full
    assert [attempt.attempt for attempt in await attempts(pacer)] == list(range(1, 9))
    assert not await pacer.inbox("ann")


async def test_failed_once_then_delivered(
    pacer: Pacer, delivery: DeliveryState, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        Channel(Outcome.TEMPORARY).install(patched)
        await pacer.process(MORNING)
    await pacer.process(delivery.due)
    assert [attempt.delivered for attempt in await attempts(pacer)] == [False, True]
    assert len(await pacer.inbox("ann")) == 1


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        (Outcome.UNREACHABLE, deliveries_pb2.DELIVERY_END_UNREACHABLE),
        (Outcome.REFUSED, deliveries_pb2.DELIVERY_END_DEAD),
    ],
)
async def test_permanent_failures_end_at_once(
    pacer: Pacer,
    delivery: DeliveryState,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
    end: deliveries_pb2.DeliveryEnd.ValueType,
) -> None:
    Channel(outcome).install(monkeypatch)
    await pacer.process(MORNING)
    assert delivery.end is not None
    assert (delivery.end.end, delivery.end.error) == (end, "no luck")


async def test_what_cannot_be_worded_is_retried_and_holds_up_nothing(
    pacer: Pacer, peers: Peers, delivery: DeliveryState
) -> None:
    peers.rejected.add("e1")
    peers.publish_ready("bob", "alarm", MORNING)
    answer = await pacer.process(MORNING)
    assert answer.delivery_count == 1
    assert delivery.end is None
    assert delivery.acks[0].error == "TEMPLATE_FAILED: no title"
    assert delivery.due > MORNING + timedelta(seconds=29)


@pytest.mark.parametrize("method", ["PickVariants", "AckDeliveries"])
async def test_invariant_7_lost_ack_delivers_once_more_with_the_same_key(
    pacer: Pacer, peers: Peers, delivery: DeliveryState, method: str
) -> None:
    peers.refuse[method] = grpc.StatusCode.INTERNAL
    with pytest.raises(grpc.aio.AioRpcError):
        await pacer.process(MORNING)
    peers.refuse.clear()
    await pacer.process(MORNING)
    assert delivery.end is not None
    assert [message.delivery_id for message in await pacer.inbox("ann")] == ["20260105.d1"]


async def test_invariant_11_copygen_down_gives_the_lease_back(
    pacer: Pacer, peers: Peers, delivery: DeliveryState
) -> None:
    peers.refuse["PickVariants"] = grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.aio.AioRpcError):
        await pacer.process(MORNING)
    assert not await attempts(pacer)
    peers.refuse.clear()
    assert (await pacer.process(MORNING)).delivery_count == 1
