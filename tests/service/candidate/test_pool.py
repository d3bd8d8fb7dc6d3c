"""The pool and the ready queue: reading changes nothing, leases, ends that stand."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import pytest
from heliograph.candidate.v1alpha1 import pool_pb2, publishing_pb2
from heliograph.type.v1alpha1 import notification_pb2

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

KINDS = [event_type("news"), event_type("code", IMMEDIATE), event_type("later", SCHEDULED)]


async def test_reading_changes_nothing_and_orders(candidate: Candidate) -> None:
    await candidate.prepare(["anna", "bert"], kinds=KINDS)
    await candidate.publish(
        event("anna", "low", source_score=0.1),
        event("anna", "high", source_score=0.9),
        event("anna", "fast", "code"),
        event("bert", "only"),
    )
    request = pool_pb2.ReadPoolRequest(user_ids=["bert", "anna", "bert", "nobody"])
    first = await candidate.stub.ReadPool(request)
    assert await candidate.stub.ReadPool(request) == first
    assert [pool.user_id for pool in first.pools] == ["bert", "anna"]
    assert [e.event_id for e in first.pools[1].events] == ["high", "low"]
    assert [kind.name for kind in first.event_types] == ["news"]
    (best,) = (await candidate.pool("anna", limit=1))["anna"]
    assert best.event_id == "high"
    assert best.source == "publish"
    assert best.merged_count == 1
    assert best.expire_time.ToDatetime() - best.create_time.ToDatetime() == timedelta(days=3)


async def test_settling_is_idempotent_and_the_first_end_stands(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], kinds=KINDS)
    await candidate.publish(event("anna", "a"), event("anna", "b"), event("anna", "fast", "code"))
    dropped = pool_pb2.Settlement(
        user_id="anna", event_id="a", end=notification_pb2.EVENT_END_SUPPRESSED, reason="MUTED"
    )
    kept = pool_pb2.Settlement(user_id="anna", event_id="b")
    bad = pool_pb2.Settlement(user_id="anna", event_id="")
    unknown = sent("anna", "never")
    wrong_route = sent("anna", "fast")
    answer = await candidate.settle(
        sent("anna", "a", reason="BEST", decision_id="d1"), dropped, kept, bad, unknown, wrong_route
    )
    assert answer.ended_count == 1
    assert reasons(answer.rejections) == {3: "INVALID_FIELD"}
    assert (await candidate.settle(dropped)).ended_count == 0
    entry = (await candidate.history("anna"))["a"]
    assert (entry.end, entry.end_reason) == (notification_pb2.EVENT_END_SENT, "BEST")
    assert entry.end_time == stamp(NOW)
    assert await candidate.pool_ids("anna") == ["b"]
    assert await candidate.lease() == ["fast"]


async def test_scheduled_events_wait_for_their_time(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], kinds=KINDS)
    due = NOW + timedelta(hours=1)
    await candidate.publish(
        event("anna", "scheduled", "later", deliver_time=stamp(due)),
        event("anna", "at-once", "later"),
        event("anna", "immediate", "code"),
    )
    assert sorted(await candidate.lease()) == ["at-once", "immediate"]
    with at(due):
        assert await candidate.lease("other") == ["at-once", "immediate", "scheduled"]


async def test_a_lease_holds_until_it_ends(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], kinds=KINDS)
    await candidate.publish(*(event("anna", f"{n}", "code") for n in range(6)))
    first, second = await asyncio.gather(
        candidate.lease("one", limit=3), candidate.lease("two", limit=3)
    )
    assert sorted(first + second) == ["0", "1", "2", "3", "4", "5"]
    assert await candidate.lease("three") == []
    with at(NOW + timedelta(seconds=29)):
        assert await candidate.lease("three") == []
    with at(NOW + timedelta(seconds=30)):
        assert len(await candidate.lease("three")) == 6


async def test_ready_events_are_given_back_until_their_retry_time(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], kinds=KINDS)
    await candidate.publish(event("anna", "now", "code"), event("anna", "quiet", "code"))
    await candidate.lease()
    retry = NOW + timedelta(hours=2)
    back = pool_pb2.Settlement(user_id="anna", event_id="quiet", retry_time=stamp(retry))
    answer = await candidate.settle_ready(pool_pb2.Settlement(user_id="anna", event_id="now"), back)
    assert answer.ended_count == 0
    assert await candidate.lease() == ["now"]
    assert (await candidate.settle_ready(sent("anna", "now"))).ended_count == 1
    assert (await candidate.settle_ready(sent("anna", "now"))).ended_count == 0
    with at(retry):
        assert await candidate.lease() == ["quiet"]


async def test_arrivals_come_in_order_and_none_is_skipped(candidate: Candidate) -> None:
    await candidate.prepare(["anna", "bert", "carl"], kinds=KINDS)
    await candidate.publish(event("anna", "a"), event("anna", "b"), event("carl", "c", "code"))
    first = await candidate.stub.ReadArrivals(pool_pb2.ReadArrivalsRequest())
    assert list(first.user_ids) == ["anna"]
    await candidate.publish(event("bert", "a"), event("anna", "c"))
    page = await candidate.stub.ReadArrivals(
        pool_pb2.ReadArrivalsRequest(cursor=first.cursor, limit=1)
    )
    rest = await candidate.stub.ReadArrivals(pool_pb2.ReadArrivalsRequest(cursor=page.cursor))
    assert sorted([*page.user_ids, *rest.user_ids]) == ["anna", "bert"]
    assert (page.more, rest.more) == (True, False)
    end = await candidate.stub.ReadArrivals(pool_pb2.ReadArrivalsRequest(cursor=rest.cursor))
    assert (list(end.user_ids), end.cursor) == ([], rest.cursor)


@pytest.mark.parametrize(
    ("cursor", "code", "reason"),
    [
        ("nonsense", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_CURSOR"),
        ("-1:0", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_CURSOR"),
        ("99999999999999999999:1", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_CURSOR"),
        ("18446744073709551615:1", grpc.StatusCode.OUT_OF_RANGE, "CURSOR"),
    ],
)
async def test_wrong_cursors(
    candidate: Candidate, cursor: str, code: grpc.StatusCode, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as arrivals:
        await candidate.stub.ReadArrivals(pool_pb2.ReadArrivalsRequest(cursor=cursor))
    with pytest.raises(grpc.aio.AioRpcError) as changes:
        await candidate.changes(cursor)
    for failure in (arrivals, changes):
        assert (failure.value.code(), reason_of(failure.value)) == (code, reason)


async def test_a_users_events_are_listed_newest_first(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], kinds=KINDS)
    for number in range(5):
        with at(NOW + timedelta(minutes=number)):
            await candidate.publish(event("anna", f"{number}"))
    with at(NOW + timedelta(hours=1)):
        names, token, pages = [], "", 0
        while token or not pages:
            answer = await candidate.stub.ListUserEvents(
                publishing_pb2.ListUserEventsRequest(user_id="anna", page_size=2, page_token=token)
            )
            names += [entry.event.event_id for entry in answer.events]
            token, pages = answer.next_page_token, pages + 1
    assert (names, pages) == (["4", "3", "2", "1", "0"], 3)
    one = await candidate.stub.ListUserEvents(
        publishing_pb2.ListUserEventsRequest(user_id="anna", event_id="3")
    )
    assert [entry.event.event_id for entry in one.events] == ["3"]
    for request, code in (
        (publishing_pb2.ListUserEventsRequest(user_id="nobody"), grpc.StatusCode.NOT_FOUND),
        (
            publishing_pb2.ListUserEventsRequest(user_id="anna", page_token="!"),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await candidate.stub.ListUserEvents(request)
        assert failure.value.code() is code
