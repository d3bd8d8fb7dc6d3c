"""Repetitions end at once as suppressed; a replay doesn't change that."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from heliograph.candidate.v1alpha1 import catalogue_pb2, publishing_pb2
from heliograph.type.v1alpha1 import event_pb2, notification_pb2

from services.runtime.clock import at
from tests.service.candidate.calls import IMMEDIATE, NOW, Candidate, event, event_type, sent

DAY = timedelta(days=1)
WEEKLY = Duration(seconds=7 * 86_400)
TITLES = {"1": "Toy Story (1995)", "2": "Heat (1995)", "3": "TOY STORY, 1995"}


async def prepare(candidate: Candidate, *kinds: event_pb2.EventType) -> None:
    await candidate.prepare(["anna", "bert"], kinds=kinds)
    await candidate.items([event_pb2.Item(item_id=i, title=title) for i, title in TITLES.items()])


async def reasons(candidate: Candidate, user: str = "anna") -> dict[str, str]:
    suppressed = notification_pb2.EVENT_END_SUPPRESSED
    history = await candidate.history(user)
    return {name: e.end_reason for name, e in history.items() if e.end == suppressed}


async def test_repetitions_in_one_batch_and_across(candidate: Candidate) -> None:
    await prepare(candidate, event_type("news", repeat_window=WEEKLY), event_type("free"))
    answer = await candidate.publish(
        event("anna", "a", item_ids=["1"]),
        event("anna", "b", item_ids=["1"]),
        event("anna", "c", item_ids=["2"]),
        event("bert", "a", item_ids=["1"]),
        event("anna", "d", "free", item_ids=["1"]),
    )
    assert answer.accepted_count == 5
    repeated = [event("anna", "e", item_ids=["3"]), event("anna", "f", item_ids=["2", "1"])]
    for _ in range(2):
        assert (await candidate.publish(*repeated)).accepted_count == 2
        assert await reasons(candidate) == {
            "b": "REPEATED_ITEM",
            "e": "REPEATED_CONTENT",
            "f": "REPEATED_ITEM",
        }
    assert await reasons(candidate, "bert") == {}
    assert sorted(await candidate.pool_ids("anna")) == ["a", "c", "d"]


async def test_the_window_counts_from_the_send(candidate: Candidate) -> None:
    await prepare(candidate, event_type("news", repeat_window=WEEKLY))
    await candidate.publish(event("anna", "a", item_ids=["1"]))
    with at(NOW + 2 * DAY):
        await candidate.settle(sent("anna", "a"))
    with at(NOW + 8 * DAY):
        await candidate.publish(event("anna", "b", item_ids=["1"]))
    with at(NOW + 9 * DAY):
        await candidate.publish(event("anna", "c", item_ids=["1"]))
    assert await reasons(candidate) == {"b": "REPEATED_ITEM"}


async def test_what_ended_unsent_keeps_nothing_away(candidate: Candidate) -> None:
    await prepare(candidate, event_type("news", repeat_window=WEEKLY))
    await candidate.publish(event("anna", "a", item_ids=["1"]))
    await candidate.stub.CancelEvents(publishing_pb2.CancelEventsRequest(item_ids=["1"]))
    await candidate.publish(event("anna", "b", item_ids=["1"]))
    with at(NOW + 4 * DAY):  # expired, and nobody has recorded it yet
        await candidate.publish(event("anna", "c", item_ids=["1"]))
    assert await reasons(candidate) == {}


async def test_keyed_events_are_merged_instead(candidate: Candidate) -> None:
    await prepare(candidate, event_type("like", window_s=3600, repeat_window=WEEKLY))
    for number in range(2):
        liked = event("anna", f"{number}", "like", item_ids=["1"], aggregation_key="1")
        await candidate.publish(liked)
    assert (await candidate.history("anna"))["1"].end == notification_pb2.EVENT_END_MERGED


async def test_only_ranked_types_have_a_window(candidate: Candidate) -> None:
    kind = event_type("code", IMMEDIATE, repeat_window=WEEKLY)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await candidate.stub.PutEventType(catalogue_pb2.PutEventTypeRequest(event_type=kind))
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
