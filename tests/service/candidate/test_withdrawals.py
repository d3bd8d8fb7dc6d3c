"""Events that are taken back: what waits is cancelled, what was sent must not go out any more."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import pytest
from heliograph.candidate.v1alpha1 import campaigns_pb2, publishing_pb2
from heliograph.type.v1alpha1 import event_pb2, notification_pb2

from services.runtime.clock import at
from tests.service.candidate.calls import NOW, Candidate, event, event_type, sent

LATER = NOW + timedelta(minutes=1)


async def withdrawn(candidate: Candidate, *names: str) -> list[str]:
    return await stopped(candidate, *(event("anna", name) for name in names))


async def stopped(candidate: Candidate, *messages: event_pb2.Event) -> list[str]:
    """Those of the events whose messages, which name their items, must not go out."""
    asked = [
        publishing_pb2.DecidedEvent(
            key=publishing_pb2.EventKey(user_id=one.user_id, event_id=one.event_id),
            item_ids=one.item_ids,
        )
        for one in messages
    ]
    answer = await candidate.stub.CheckEvents(publishing_pb2.CheckEventsRequest(events=asked))
    return sorted(key.event_id for key in answer.withdrawn)


async def cancel(candidate: Candidate, ids: Iterable[str] = (), **fields: list[str]) -> int:
    events = [publishing_pb2.EventKey(user_id="anna", event_id=name) for name in ids]
    request = publishing_pb2.CancelEventsRequest(events=events, **fields)
    return (await candidate.stub.CancelEvents(request)).cancelled_count


async def send(candidate: Candidate, *events: event_pb2.Event) -> None:
    await candidate.publish(*events)
    await candidate.settle(*(sent(one.user_id, one.event_id) for one in events))


@pytest.mark.parametrize("is_sent", [True, False])
async def test_what_is_cancelled_must_not_go_out(candidate: Candidate, is_sent: bool) -> None:
    await candidate.prepare(["anna"], ["x", "y", "z"], [event_type("news")])
    events = [
        event("anna", "by-id"),
        event("anna", "by-item", item_ids=["y", "x"]),
        event("anna", "by-campaign", campaign_id="spring"),
        event("anna", "stands", item_ids=["z"], campaign_id="summer"),
    ]
    await candidate.publish(*events)
    if is_sent:
        await candidate.settle(*(sent("anna", one.event_id) for one in events))
    names = [one.event_id for one in events]
    assert await withdrawn(candidate, *names) == []
    for _ in range(2):
        await cancel(candidate, ["by-id", "nobody's"], item_ids=["x"], campaign_ids=["spring"])
        assert await withdrawn(candidate, *names) == ["by-campaign", "by-id", "by-item"]
    end = notification_pb2.EVENT_END_SENT if is_sent else notification_pb2.EVENT_END_CANCELLED
    history = await candidate.history("anna")
    assert {history[name].end for name in ("by-id", "by-item", "by-campaign")} == {end}


async def test_what_comes_after_the_withdrawal_stands(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], ["x"], [event_type("news")])
    await cancel(candidate, item_ids=["x"], campaign_ids=["spring"])
    with at(LATER):
        await send(candidate, event("anna", "new", item_ids=["x"], campaign_id="spring"))
        assert await withdrawn(candidate, "new", "unknown") == []


async def test_a_deleted_item_stops_all_messages_that_name_it(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], ["x", "y"], [event_type("news")])
    on_their_way = [
        event("anna", "x", item_ids=["x"]),
        event("anna", "xy", item_ids=["x", "y"]),
        event("anna", "y", item_ids=["y"]),
    ]
    await send(candidate, *on_their_way)
    await candidate.publish(
        event("anna", "waits-x", item_ids=["x"]),
        event("anna", "waits-xy", item_ids=["x", "y"]),
        event("anna", "waits-x?", item_ids=["x", "unknown"]),
    )
    await candidate.items([event_pb2.Item(item_id="x", deleted=True)])
    assert await stopped(candidate, *on_their_way) == ["x", "xy"]
    assert sorted(await candidate.pool_ids("anna")) == ["waits-x?", "waits-xy"]
    entry = (await candidate.history("anna"))["waits-x"]
    cancelled = notification_pb2.EVENT_END_CANCELLED
    assert (entry.end, entry.end_reason) == (cancelled, "ITEM_DELETED")
    await candidate.items([event_pb2.Item(item_id="y", deleted=True)])
    assert await candidate.pool_ids("anna") == ["waits-x?"]


async def test_a_message_that_does_not_name_the_deleted_item_goes_out(
    candidate: Candidate,
) -> None:
    await candidate.prepare(["anna"], ["x", "y"], [event_type("news")])
    await candidate.publish(event("anna", "xy", item_ids=["x", "y"]))
    (before,) = (await candidate.pool("anna"))["anna"]
    await candidate.items([event_pb2.Item(item_id="x", deleted=True)])
    (after,) = (await candidate.pool("anna"))["anna"]
    await candidate.settle(sent("anna", "xy"))
    assert sorted(before.item_ids) == ["x", "y"]
    assert list(after.item_ids) == ["y"]
    assert await stopped(candidate, after) == []
    assert await stopped(candidate, before) == ["xy"]
    assert await stopped(candidate, after, before, before) == ["xy"]
    await cancel(candidate, item_ids=["x"])
    assert await stopped(candidate, after) == ["xy"]


async def test_a_cancelled_campaign_stops_its_messages(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], ["x"], [event_type("news")])
    campaign = campaigns_pb2.Campaign(campaign_id="spring", item_id="x", event_type="news")
    launch = campaigns_pb2.LaunchCampaignRequest(request_id="r", campaign=campaign)
    await candidate.stub.LaunchCampaign(launch)
    await send(candidate, event("anna", "extra", campaign_id="spring"))
    await candidate.stub.CancelCampaign(campaigns_pb2.CancelCampaignRequest(campaign_id="spring"))
    assert await withdrawn(candidate, "extra") == ["extra"]
