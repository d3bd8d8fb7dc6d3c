"""The immediate and the scheduled route."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest
from heliograph.type.v1alpha1 import event_pb2, notification_pb2

from tests.service.pacer.conftest import MORNING, Pacer
from tests.service.pacer.peers import Peers, ReadyState


async def test_immediate_event_goes_to_the_inbox_in_one_pass(pacer: Pacer, peers: Peers) -> None:
    peers.publish_ready("ann", "alarm", MORNING)
    answer = await pacer.process(MORNING)
    assert (answer.ready_count, answer.send_count, answer.delivery_count) == (1, 1, 1)
    (message,) = await pacer.inbox("ann")
    assert message.event_id == "alarm"
    state = peers.ready["ann", "alarm"]
    assert state.end == notification_pb2.EVENT_END_SENT
    assert state.decision_id == message.decision_id
    (slot,) = peers.requests["Decide"][0].slots
    assert (slot.slot_id, list(slot.scores), slot.rank_id) == ("event:alarm", [], "")
    assert not peers.requests["Rank"]


async def test_deferred_event_comes_back_at_its_time(pacer: Pacer, peers: Peers) -> None:
    until = MORNING + timedelta(hours=3)
    peers.publish_ready("ann", "alarm", MORNING)
    peers.deferred["alarm"] = until
    answer = await pacer.process(MORNING)
    assert (answer.ready_count, answer.delivery_count) == (0, 0)
    (settlement,) = peers.requests["SettleReady"][0].settlements
    assert (settlement.end, settlement.reason) == (0, "QUIET_HOURS")
    assert settlement.retry_time.ToDatetime(tzinfo=until.tzinfo) == until
    assert (await pacer.process(until - timedelta(seconds=1))).ready_count == 0
    assert (await pacer.process(until)).ready_count == 1


async def test_scheduled_slot_time_is_when_it_was_due(pacer: Pacer, peers: Peers) -> None:
    peers.put_type("reminder", event_pb2.ROUTE_SCHEDULED)
    event = event_pb2.Event(user_id="ann", event_id="r1", event_type="reminder")
    event.create_time.FromDatetime(MORNING - timedelta(days=2))
    event.deliver_time.FromDatetime(MORNING)
    peers.ready["ann", "r1"] = ReadyState(event, MORNING)
    peers.recipients.add("ann")
    await pacer.process(MORNING + timedelta(minutes=5))
    (slot,) = peers.requests["Decide"][0].slots
    assert slot.slot_time.ToDatetime(tzinfo=MORNING.tzinfo) == MORNING


@pytest.mark.parametrize("method", ["Decide", "SettleReady"])
async def test_hold_rule_for_ready_events(pacer: Pacer, peers: Peers, method: str) -> None:
    peers.publish_ready("ann", "alarm", MORNING)
    peers.refuse[method] = grpc.StatusCode.INTERNAL
    with pytest.raises(grpc.aio.AioRpcError) as held:
        await pacer.process(MORNING)
    assert held.value.code() is grpc.StatusCode.UNAVAILABLE
    peers.refuse.clear()
    await pacer.process(MORNING)
    assert len(await pacer.inbox("ann")) == 1
    assert len(peers.decisions) == 1


async def test_held_ready_event_is_free_at_once(pacer: Pacer, peers: Peers) -> None:
    peers.publish_ready("ann", "alarm", MORNING)
    peers.refuse["Decide"] = grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.aio.AioRpcError):
        await pacer.process(MORNING)
    peers.refuse.clear()
    assert (await pacer.process(MORNING)).ready_count == 1


async def test_lost_answer_of_decide_repeats_the_same_decision(pacer: Pacer, peers: Peers) -> None:
    peers.publish_ready("ann", "alarm", MORNING)
    peers.lose_answer["Decide"] = 1
    await pacer.process(MORNING)
    assert len(peers.requests["Decide"]) == 2
    (message,) = await pacer.inbox("ann")
    assert peers.ready["ann", "alarm"].decision_id == message.decision_id


async def test_unknown_user_and_poison_come_back_later(pacer: Pacer, peers: Peers) -> None:
    peers.publish_ready("ghost", "a", MORNING)
    peers.recipients.clear()
    peers.publish_ready("ann", "b", MORNING)
    peers.publish_ready("bob", "c", MORNING)
    peers.poison.add("c")
    answer = await pacer.process(MORNING)
    assert answer.ready_count == 1
    for key in (("ghost", "a"), ("bob", "c")):
        assert peers.ready[key].end == 0
        assert peers.ready[key].due == MORNING + timedelta(minutes=15)
