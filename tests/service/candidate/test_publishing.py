"""Publishing: acceptance once, rejections, merging, eviction, expiry, event types."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest
from heliograph.candidate.v1alpha1 import catalogue_pb2, publishing_pb2
from heliograph.type.v1alpha1 import event_pb2, notification_pb2

from services.runtime.clock import at
from tests.service.candidate.calls import (
    IMMEDIATE,
    NOW,
    SCHEDULED,
    Candidate,
    event,
    event_type,
    reason_of,
    reasons,
    sent,
    stamp,
)

HOUR = timedelta(hours=1)


async def test_good_events_survive_bad_ones(candidate: Candidate) -> None:
    await candidate.prepare(
        ["anna"], ["gone"], [event_type("news"), event_type("later", SCHEDULED)]
    )
    await candidate.items([event_pb2.Item(item_id="gone", deleted=True)])
    far = stamp(NOW + timedelta(days=200))
    batch = [
        event("anna", "good"),
        event("", "no-user"),
        event("nobody", "e"),
        event("anna", "e", "unknown.type"),
        event("anna", "old", expire_time=stamp(NOW - HOUR), create_time=stamp(NOW - 2 * HOUR)),
        event("anna", "backwards", create_time=stamp(NOW), expire_time=stamp(NOW - HOUR)),
        event("anna", "future", create_time=stamp(NOW + HOUR)),
        event("anna", "far", expire_time=far),
        event("anna", "late", "later", deliver_time=far),
        event("anna", "nan", source_score=float("nan")),
        event("anna", "nul", aggregation_key="a\0b"),
        event("anna", "x" * 129),
        event("anna", "deleted", item_ids=["gone"]),
        event("anna", "good2"),
        event("anna", "good"),
        event("anna", "good", payload={"other": "content"}),
    ]
    batch[6].create_time.seconds = 10**15
    answer = await candidate.publish(*batch)
    assert reasons(answer.rejections) == {
        1: "INVALID_FIELD",
        2: "UNKNOWN_USER",
        3: "UNKNOWN_EVENT_TYPE",
        4: "EXPIRED",
        5: "INVALID_FIELD",
        6: "INVALID_FIELD",
        7: "INVALID_FIELD",
        8: "INVALID_FIELD",
        9: "INVALID_FIELD",
        10: "INVALID_FIELD",
        11: "INVALID_FIELD",
        12: "ITEM_DELETED",
        15: "EVENT_ID_REUSED",
    }
    paths = {entry.index: entry.fields[0].field for entry in answer.rejections}
    assert paths[1] == "user_id"
    assert paths[6] == "create_time"
    assert paths[8] == "deliver_time"
    assert paths[12] == "item_ids[0]"
    assert answer.accepted_count == 3
    assert sorted(await candidate.pool_ids("anna")) == ["good", "good2"]


async def test_a_replay_answers_as_the_first_call(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], kinds=[event_type("news")])
    first = event("anna", "e", payload={"a": "1"}, expire_time=stamp(NOW + HOUR))
    assert (await candidate.publish(first)).accepted_count == 1
    assert (await candidate.settle(sent("anna", "e"))).ended_count == 1
    with at(NOW + 2 * HOUR):  # sent, and expired since
        replay = await candidate.publish(first)
        changed = await candidate.publish(event("anna", "e", payload={"a": "2"}))
    assert replay.accepted_count == 1
    assert reasons(changed.rejections) == {0: "EVENT_ID_REUSED"}
    assert await candidate.pool_ids("anna") == []


async def test_stream_counts_positions_over_all_batches(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], kinds=[event_type("news")])
    batches = [
        publishing_pb2.PublishEventStreamRequest(events=[event("anna", "a"), event("nobody", "a")]),
        publishing_pb2.PublishEventStreamRequest(events=[event("anna", "b"), event("", "")]),
    ]
    answer = await candidate.stub.PublishEventStream(iter(batches))
    assert (answer.accepted_count, answer.rejected_count) == (2, 2)
    assert reasons(answer.rejections) == {1: "UNKNOWN_USER", 3: "INVALID_FIELD"}


async def test_a_replay_among_new_events_changes_nothing_for_them(candidate: Candidate) -> None:
    kinds = [event_type("news"), event_type("like", window_s=3600), event_type("code", IMMEDIATE)]
    await candidate.prepare(["anna", "bert"], kinds=kinds)

    def like(name: str, actor: str) -> event_pb2.Event:
        return event("anna", name, "like", aggregation_key="post", actor_ids=[actor])

    first = [like("1", "x"), like("2", "y"), event("bert", "a"), event("anna", "c", "code")]
    assert (await candidate.publish(*first)).accepted_count == 4
    changed = event("bert", "a", payload={"other": "content"})
    more = [event("bert", "b"), *first, changed, like("3", "z"), event("anna", "d", "code")]
    answer = await candidate.publish(*more)
    assert (answer.accepted_count, reasons(answer.rejections)) == (7, {5: "EVENT_ID_REUSED"})
    (waiting,) = (await candidate.pool("anna"))["anna"]
    assert (waiting.event_id, waiting.merged_count) == ("1", 3)
    assert sorted(await candidate.pool_ids("bert")) == ["a", "b"]
    assert sorted(await candidate.lease()) == ["c", "d"]


async def test_of_a_stream_the_first_event_under_an_id_stands(candidate: Candidate) -> None:
    users = [f"u{n}" for n in range(40)]
    await candidate.prepare(users, kinds=[event_type("news")])
    batches = [
        publishing_pb2.PublishEventStreamRequest(
            events=[event(user, "e", payload={"batch": str(number)}) for user in users]
        )
        for number in range(12)
    ]
    for _ in range(2):  # the second time all are replays, or refused again
        answer = await candidate.stub.PublishEventStream(iter(batches))
        assert (answer.accepted_count, answer.rejected_count) == (40, 440)
        assert [entry.index for entry in answer.rejections] == [*range(40, 480)]
    pools = await candidate.pool(*users)
    assert {one.payload["batch"] for user in users for one in pools[user]} == {"0"}


async def test_events_of_one_key_are_merged(candidate: Candidate) -> None:
    await candidate.prepare(["anna", "bert"], kinds=[event_type("like", window_s=3600)])

    def like(user: str, name: str, actor: str) -> event_pb2.Event:
        return event(user, name, "like", aggregation_key="post", actor_ids=[actor])

    await candidate.publish(like("anna", "1", "x"), like("anna", "2", "y"), like("bert", "1", "x"))
    with at(NOW + timedelta(minutes=59)):
        await candidate.publish(like("anna", "3", "z"))
    (waiting,) = (await candidate.pool("anna"))["anna"]
    assert (waiting.event_id, waiting.merged_count) == ("1", 3)
    assert list(waiting.actor_ids) == ["x", "y", "z"]
    history = await candidate.history("anna")
    assert history["2"].end == history["3"].end == notification_pb2.EVENT_END_MERGED
    assert history["2"].merged_into == "1"
    with at(NOW + timedelta(minutes=61)):
        await candidate.publish(like("anna", "4", "w"))
        assert (await candidate.publish(like("anna", "3", "z"))).accepted_count == 1
    assert sorted(await candidate.pool_ids("anna")) == ["1", "4"]


async def test_a_full_pool_evicts_the_least_promising(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], kinds=[event_type("news")])
    scored = [event("anna", f"s{n}", source_score=n / 10) for n in (1, 2, 3, 4)]
    sooner = event("anna", "sooner", expire_time=stamp(NOW + HOUR), source_score=0.5)
    later = event("anna", "later", expire_time=stamp(NOW + 2 * HOUR), source_score=0.5)
    await candidate.publish(*scored, sooner, later, event("anna", "s6", source_score=0.6))
    assert await candidate.pool_ids("anna") == ["s6", "sooner", "later", "s4", "s3"]
    evicted = [
        name
        for name, entry in (await candidate.history("anna")).items()
        if entry.end == notification_pb2.EVENT_END_EVICTED
    ]
    assert sorted(evicted) == ["s1", "s2"]
    await candidate.publish(*(event("anna", f"t{n}", source_score=0.9) for n in range(3)))
    kept = await candidate.pool_ids("anna")
    assert sorted(kept[:3]) == ["t0", "t1", "t2"]
    assert kept[3:] == ["s6", "later"]  # of two equal scores the one that expires sooner left


async def test_expiry_hides_at_once_and_is_recorded(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], kinds=[event_type("news"), event_type("code", IMMEDIATE)])
    soon = stamp(NOW + HOUR)
    await candidate.publish(
        event("anna", "pooled", expire_time=soon), event("anna", "fast", "code", expire_time=soon)
    )
    with at(NOW + HOUR):
        assert await candidate.pool("anna") == {}
        assert await candidate.lease() == []
    with at(NOW + 2 * HOUR):
        history = await candidate.history("anna")
    assert {entry.end for entry in history.values()} == {notification_pb2.EVENT_END_EXPIRED}


async def test_event_types_grow_by_version(candidate: Candidate) -> None:
    kind = event_type("news")
    request = catalogue_pb2.PutEventTypeRequest(event_type=kind, request_id="r1")
    first = await candidate.stub.PutEventType(request)
    changed = event_type("news", description="other")
    second = await candidate.stub.PutEventType(
        catalogue_pb2.PutEventTypeRequest(event_type=changed)
    )
    unchanged = await candidate.stub.PutEventType(
        catalogue_pb2.PutEventTypeRequest(event_type=changed)
    )
    replay = await candidate.stub.PutEventType(request)
    versions = [a.event_type.version for a in (first, second, unchanged, replay)]
    assert versions == [1, 2, 2, 1]
    got = await candidate.stub.GetEventType(catalogue_pb2.GetEventTypeRequest(name="news"))
    assert got.event_type.description == "other"
    with pytest.raises(grpc.aio.AioRpcError) as reused:
        await candidate.stub.PutEventType(
            catalogue_pb2.PutEventTypeRequest(event_type=changed, request_id="r1")
        )
    assert reused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert reason_of(reused.value) == "REQUEST_ID_REUSED"


async def test_event_types_are_listed_in_pages(candidate: Candidate) -> None:
    await candidate.prepare(kinds=[event_type(name) for name in ("b", "a", "c")])
    names, token = [], ""
    for _ in range(3):
        page = await candidate.stub.ListEventTypes(
            catalogue_pb2.ListEventTypesRequest(page_size=1, page_token=token)
        )
        names += [kind.name for kind in page.event_types]
        token = page.next_page_token
    assert (names, token) == (["a", "b", "c"], "")


async def test_cancel_by_id_item_and_campaign(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], kinds=[event_type("news"), event_type("code", IMMEDIATE)])
    await candidate.publish(
        event("anna", "a"),
        event("anna", "b", item_ids=["x", "y"]),
        event("anna", "c", "code", campaign_id="camp"),
        event("anna", "d"),
    )
    request = publishing_pb2.CancelEventsRequest(
        events=[publishing_pb2.EventKey(user_id="anna", event_id="a")],
        item_ids=["y"],
        campaign_ids=["camp"],
    )
    assert (await candidate.stub.CancelEvents(request)).cancelled_count == 3
    assert (await candidate.stub.CancelEvents(request)).cancelled_count == 0
    assert await candidate.pool_ids("anna") == ["d"]
    assert await candidate.lease() == []


async def test_odd_texts_are_stored_as_they_are(candidate: Candidate) -> None:
    odd = "a\"b\\c,{d}'é\u2028 NULL"
    await candidate.prepare([odd], kinds=[event_type("news")])
    offered = event(odd, odd, item_ids=[odd, "NULL"], aggregation_key="\\N")
    assert (await candidate.publish(offered, offered)).accepted_count == 2
    (stored,) = (await candidate.pool(odd))[odd]
    assert (stored.user_id, stored.event_id, list(stored.item_ids)) == (odd, odd, [odd, "NULL"])
    assert stored.aggregation_key == "\\N"
    request = publishing_pb2.CancelEventsRequest(item_ids=["NULL"])
    assert (await candidate.stub.CancelEvents(request)).cancelled_count == 1
