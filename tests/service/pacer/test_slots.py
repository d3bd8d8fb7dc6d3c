"""The ranked route: arrivals, slots, decisions, and what is left after failures."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta

import grpc
import pytest
from heliograph.pacer.v1alpha1 import pacer_pb2
from heliograph.type.v1alpha1 import notification_pb2
from prometheus_client import REGISTRY

from services.pacer.store.slots import ClosedSlot, SlotStore
from services.runtime.clock import at
from tests.conftest import OpenDatabase
from tests.service.pacer.conftest import MORNING, NOON, SLOT, Pacer, StartPacer
from tests.service.pacer.peers import Peers


def decided(peers: Peers) -> Counter[tuple[str, str]]:
    """How often each (user, slot) was sent to Decide."""
    return Counter((s.user_id, s.slot_id) for r in peers.requests["Decide"] for s in r.slots)


async def test_ranked_event_goes_from_pool_to_inbox(pacer: Pacer, peers: Peers) -> None:
    peers.publish("ann", "e1", score=0.6, item_ids=["i1"])
    peers.publish("ann", "e2", score=0.9)
    first = await pacer.process(MORNING)
    assert (first.slot_count, first.delivery_count) == (0, 0)
    second = await pacer.process(SLOT)
    assert (second.slot_count, second.send_count, second.delivery_count) == (1, 1, 1)
    (message,) = await pacer.inbox("ann")
    assert (message.event_id, message.title) == ("e2", "movie.new e2")
    assert message.deliver_time.ToDatetime(tzinfo=SLOT.tzinfo) == SLOT
    assert peers.ends["ann", "e2"].end == notification_pb2.EVENT_END_SENT
    closed, waiting = await pacer.slots("ann")
    assert closed.slot_id == "20260105T0900"
    assert closed.decision_id == peers.decisions["ann", "20260105T0900"].decision_id
    assert not waiting.HasField("process_time")
    assert waiting.slot_time.ToDatetime(tzinfo=NOON.tzinfo) == NOON
    stages = {stage.stage for stage in second.stages}
    assert {"read_pool", "contexts", "rank", "decide", "settle", "pick", "deliver"} <= stages


async def test_decide_gets_the_scores_and_versions_of_rank(pacer: Pacer, peers: Peers) -> None:
    peers.publish("ann", "e1", score=0.25)
    peers.publish("bob", "e2", score=0.5)
    peers.publish("bob", "e3", score=0.75)
    await pacer.process(MORNING)
    await pacer.process(SLOT)
    (request,) = peers.requests["Decide"]
    scores = {slot.user_id: list(slot.scores) for slot in request.slots}
    assert scores == {"ann": [0.25, 0.25], "bob": [0.5, 0.5, 0.75, 0.75]}
    assert {(s.rank_id, s.model_version) for s in request.slots} == {("rank-1", "m1")}
    assert (len(request.heads), len(request.trained_heads)) == (2, 1)
    assert list(peers.requests["Rank"][0].user_row) == [0, 1, 1]


async def test_empty_pool_closes_the_slot_without_decision(pacer: Pacer, peers: Peers) -> None:
    peers.publish("ann", "e1")
    await pacer.process(MORNING)
    peers.pool.clear()
    answer = await pacer.process(SLOT)
    assert answer.slot_count == 0
    (closed,) = await pacer.slots("ann")
    assert closed.HasField("process_time")
    assert not closed.decision_id
    assert not peers.requests["Decide"]


async def test_no_next_slot_when_nothing_stays(pacer: Pacer, peers: Peers) -> None:
    peers.publish("ann", "e1")
    await pacer.process(MORNING)
    await pacer.process(SLOT)
    assert len(await pacer.slots("ann")) == 1


async def test_arrival_while_the_slot_is_held_gets_a_next_slot(
    start_pacer: StartPacer, peers: Peers
) -> None:
    """The pool was read before the event came, and the pool's other event is gone: without the
    flag the event would wait for ever."""
    peers.publish("ann", "e1")
    async with start_pacer() as pacer, start_pacer() as other:
        await pacer.process(MORNING)

        async def arrive() -> None:
            peers.on_read_pool = None
            peers.publish("ann", "late")
            with at(SLOT):
                await other.process(SLOT)

        peers.on_read_pool = arrive
        await pacer.process(SLOT)
        assert ("ann", "late") in peers.pool
        closed, waiting = await pacer.slots("ann")
        assert closed.HasField("process_time")
        assert not waiting.HasField("process_time")
        await pacer.process(NOON)
        assert ("ann", "late") in peers.ends


async def test_unknown_user_is_looked_at_once_more_then_left(pacer: Pacer, peers: Peers) -> None:
    peers.publish("ghost", "e1")
    peers.recipients.clear()
    await pacer.process(MORNING)
    await pacer.process(MORNING + timedelta(hours=2))
    (closed,) = await pacer.slots("ghost")
    assert closed.HasField("process_time")
    assert ("ghost", "e1") in peers.pool
    assert not peers.requests["Decide"]


async def test_user_who_became_known_in_time_is_decided(pacer: Pacer, peers: Peers) -> None:
    peers.publish("ann", "e1")
    peers.recipients.clear()
    await pacer.process(MORNING)
    peers.recipients.add("ann")
    answer = await pacer.process(MORNING + timedelta(hours=2))
    assert answer.slot_count == 1


@pytest.mark.parametrize("method", ["ReadPool", "GetUserContexts", "Rank", "Decide", "SettlePool"])
async def test_invariant_11_hold_rule(pacer: Pacer, peers: Peers, method: str) -> None:
    """With a service down nothing is lost, the metrics tell, and the same pass does it afterwards,
    at the same time, since nothing stays leased."""
    peers.publish("ann", "e1")
    await pacer.process(MORNING)
    peers.refuse[method] = grpc.StatusCode.UNAVAILABLE
    before = holds("slots")
    with pytest.raises(grpc.aio.AioRpcError) as held:
        await pacer.process(SLOT)
    assert held.value.code() is grpc.StatusCode.UNAVAILABLE
    assert holds("slots") > before
    (waiting,) = await pacer.slots("ann")
    assert not waiting.HasField("process_time")
    peers.refuse.clear()
    await pacer.process(SLOT)
    assert [message.event_id for message in await pacer.inbox("ann")] == ["e1"]
    assert len(peers.decisions) == 1


def holds(stage: str) -> float:
    """How many batches a stage has held so far, whatever was down."""
    return sum(
        sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "heliograph_pacer_holds_total" and sample.labels["stage"] == stage
    )


async def test_invariant_11_ranker_down_lets_ready_events_through(
    pacer: Pacer, peers: Peers
) -> None:
    peers.publish("ann", "e1")
    await pacer.process(MORNING)
    peers.publish_ready("bob", "alarm", SLOT)
    peers.refuse["Rank"] = grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.aio.AioRpcError):
        await pacer.process(SLOT)
    assert [message.event_id for message in await pacer.inbox("bob")] == ["alarm"]


@pytest.mark.parametrize("method", ["Decide", "SettlePool"])
async def test_invariant_2_lost_answer_repeats_the_same_decision(
    pacer: Pacer, peers: Peers, method: str
) -> None:
    """Killed between decide and settle, or between settle and close."""
    peers.publish("ann", "e1")
    peers.publish("ann", "e2", score=0.2)
    await pacer.process(MORNING)
    peers.lose_answer[method] = 1
    await pacer.process(SLOT)  # the client repeats a pass that was held
    assert decided(peers) == {("ann", "20260105T0900"): 2}
    (decision,) = peers.decisions.values()
    assert [message.event_id for message in await pacer.inbox("ann")] == ["e1"]
    closed, _ = await pacer.slots("ann")
    assert closed.decision_id == decision.decision_id
    assert peers.ends["ann", "e1"].decision_id == decision.decision_id


async def test_slot_of_a_dead_pacer_is_taken_over_after_its_lease(
    pacer: Pacer, peers: Peers, open_database: OpenDatabase
) -> None:
    peers.publish("ann", "e1")
    await pacer.process(MORNING)
    store = SlotStore(open_database("pacer"))
    assert len(await store.lease_due("dead", SLOT, timedelta(seconds=60), 10)) == 1
    await pacer.process(SLOT + timedelta(seconds=59))
    assert not peers.decisions
    await pacer.process(SLOT + timedelta(seconds=60))
    assert len(peers.decisions) == 1


async def test_slow_pacer_cannot_close_a_slot_that_was_taken_over(
    pacer: Pacer, peers: Peers, open_database: OpenDatabase
) -> None:
    peers.publish("ann", "e1")
    await pacer.process(MORNING)
    store = SlotStore(open_database("pacer"))
    (slot,) = await store.lease_due("slow", SLOT, timedelta(seconds=1), 10)
    later = SLOT + timedelta(seconds=2)
    assert len(await store.lease_due("quick", later, timedelta(seconds=60), 10)) == 1
    assert await store.close("slow", later, [ClosedSlot(slot, "d", False, ())]) == 0
    assert await store.close("quick", later, [ClosedSlot(slot, "d", False, ())]) == 1


async def test_two_pacers_never_process_the_same_slot(
    start_pacer: StartPacer, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIOGRAPH_PACER_BATCH_SLOTS", "7")
    users = [f"u{number:03}" for number in range(100)]
    for user in users:
        peers.publish(user, "e1")
    async with start_pacer() as one, start_pacer() as two:
        await asyncio.gather(one.process(MORNING), two.process(MORNING))
        answers = await asyncio.gather(one.process(SLOT), two.process(SLOT))
        assert decided(peers) == Counter({(user, "20260105T0900"): 1 for user in users})
        assert sum(answer.slot_count for answer in answers) == 100
        assert all([len(await one.inbox(user)) == 1 for user in users])


async def test_batches_stay_within_the_limits(
    pacer: Pacer, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        for event in range(20):
            peers.publish(f"u{number:03}", f"e{event}", score=0.1)
    await pacer.process(MORNING)
    answer = await pacer.process(SLOT)
    assert answer.slot_count == 300
    sizes = [len(request.events) for request in peers.requests["Rank"]]
    assert sum(sizes) == 6000
    assert max(sizes) <= 4096
    assert set(decided(peers).values()) == {1}


async def test_pools_too_large_for_one_message_are_read_in_halves(
    pacer: Pacer, peers: Peers
) -> None:
    payload = {f"k{number}": "x" * 1024 for number in range(32)}
    for number in range(60):
        for event in range(10):
            peers.publish(f"u{number:02}", f"e{event}", score=0.1, payload=payload)
    await pacer.process(MORNING)
    answer = await pacer.process(SLOT)
    assert answer.slot_count == 60
    assert len(peers.requests["ReadPool"]) > 1
    assert all(r.ByteSize() < 9 * 2**20 for r in peers.requests["Decide"])


async def test_cursor_ahead_of_a_restored_candidate_begins_anew(pacer: Pacer, peers: Peers) -> None:
    for number in range(3):
        peers.publish(f"u{number}", "e1")
    await pacer.process(MORNING)
    peers.arrivals.clear()
    peers.publish("ann", "e1")
    await pacer.process(MORNING)
    assert len(await pacer.slots("ann")) == 1


async def test_poison_event_holds_up_nobody_else(pacer: Pacer, peers: Peers) -> None:
    for number in range(9):
        peers.publish(f"u{number}", f"e{number}")
    peers.poison.add("e4")
    await pacer.process(MORNING)
    answer = await pacer.process(SLOT)
    assert answer.slot_count == 8
    closed, waiting = await pacer.slots("u4")
    assert not closed.decision_id
    assert waiting.slot_time.ToDatetime(tzinfo=NOON.tzinfo) == NOON


async def test_rejected_slot_and_unscored_event_wait_for_the_next_slot(
    pacer: Pacer, peers: Peers
) -> None:
    peers.publish("ann", "bad")
    peers.publish("bob", "blank", score=0.8)
    peers.publish("bob", "good", score=0.7)
    peers.publish("cat", "alone")
    peers.rejected.add("bad")
    peers.unscored |= {"blank", "alone"}
    await pacer.process(MORNING)
    answer = await pacer.process(SLOT)
    assert answer.slot_count == 1
    assert [message.event_id for message in await pacer.inbox("bob")] == ["good"]
    for user in ("ann", "bob", "cat"):
        _, waiting = await pacer.slots(user)
        assert not waiting.HasField("process_time")


async def test_named_users_are_processed_before_they_are_due_and_once(
    pacer: Pacer, peers: Peers
) -> None:
    for user in ("ann", "bob"):
        peers.publish(user, "e1")
        peers.publish(user, "e2")
    answer = await pacer.process(MORNING, "ann", "ann", "nobody")
    assert answer.slot_count == 1
    closed, waiting = await pacer.slots("ann")
    assert closed.slot_id == "20260105T0900"
    assert waiting.slot_time.ToDatetime(tzinfo=NOON.tzinfo) == NOON
    again = await pacer.process(SLOT)
    assert again.slot_count == 1
    assert len(await pacer.inbox("ann")) == 1


async def test_limit_stops_the_pass(pacer: Pacer, peers: Peers) -> None:
    for number in range(5):
        peers.publish(f"u{number}", "e1")
    await pacer.process(MORNING)
    assert (await pacer.process(SLOT, limit=2)).slot_count == 2
    assert (await pacer.process(SLOT)).slot_count == 3


async def test_backlog_counts_due_and_leased(
    pacer: Pacer, peers: Peers, open_database: OpenDatabase
) -> None:
    for number in range(3):
        peers.publish(f"u{number}", "e1")
    await pacer.process(MORNING)
    store = SlotStore(open_database("pacer"))
    await store.lease_due("someone", SLOT, timedelta(seconds=60), 1)

    async def slots(time: datetime) -> pacer_pb2.StageBacklog:
        with at(time):
            answer = await pacer.stub.GetBacklog(pacer_pb2.GetBacklogRequest())
        assert [stage.stage for stage in answer.stages] == ["ready", "slots", "deliveries"]
        return answer.stages[1]

    waiting = await slots(SLOT + timedelta(seconds=30))
    assert (waiting.due_count, waiting.leased_count) == (2, 1)
    assert waiting.oldest_age.ToTimedelta() == timedelta(seconds=30)
    assert (await slots(SLOT + timedelta(minutes=2))).due_count == 3
