"""Digests: held until ready, announced once, full of all that came meanwhile."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from heliograph.candidate.v1alpha1 import catalogue_pb2, pool_pb2
from heliograph.type.v1alpha1 import attribute_pb2, event_pb2, notification_pb2
from sqlalchemy import text

from services.candidate.cursors import Position
from services.candidate.event_store import QUERIES
from services.runtime.clock import at
from tests.conftest import OpenDatabase
from tests.service.candidate.calls import NOW, Candidate, event, event_type, fields_of, stamp
from tests.service.candidate.test_invariants import Engines, draft

HOUR = timedelta(hours=1)
EVENING = NOW.replace(hour=18)
USERS = [f"u{number}" for number in range(20)]


def digest_type(name: str = "like", **rules: Any) -> event_pb2.EventType:
    kind = event_type(name, window_s=60)
    if (wait := rules.pop("maximum_wait", None)) is not None:
        rules["maximum_wait"] = Duration(seconds=int(wait.total_seconds()))
    kind.aggregation.MergeFrom(event_pb2.Aggregation(**rules))
    return kind


def like(user: str, name: str, *actors: str, **fields: Any) -> event_pb2.Event:
    return event(user, name, "like", aggregation_key="post", actor_ids=actors, **fields)


class Reader:
    """Follows the arrivals as the pacer does."""

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate
        self._cursor = ""

    async def news(self) -> list[str]:
        request = pool_pb2.ReadArrivalsRequest(cursor=self._cursor)
        answer = await self._candidate.stub.ReadArrivals(request)
        self._cursor = answer.cursor
        return list(answer.user_ids)


async def test_a_digest_waits_for_the_users_hour(candidate: Candidate) -> None:
    await candidate.prepare(["zulu"], kinds=[digest_type(digest_hour=18)])
    zone = attribute_pb2.AttributeValue(string_value="America/New_York")
    await candidate.users([event_pb2.User(user_id="york", attributes={"time_zone": zone})])
    reader = Reader(candidate)
    await candidate.publish(like("zulu", "1", "x"), like("york", "1", "x"))
    with at(NOW + 8 * HOUR):
        await candidate.publish(like("zulu", "2", "y"))
        assert (await candidate.pool("zulu", "york"), await reader.news()) == ({}, [])
    with at(EVENING):
        (digest,) = (await candidate.pool("zulu", "york"))["zulu"]
        assert (digest.merged_count, digest.actor_count) == (2, 2)
        assert await reader.news() == ["zulu"]
    with at(EVENING + 4 * HOUR):
        assert await reader.news() == []
    with at(EVENING + 5 * HOUR):  # 18:00 in New York
        assert await reader.news() == ["york"]
        assert await candidate.pool_ids("york") == ["1"]
    with at(EVENING + 6 * HOUR):
        assert await reader.news() == []
    history = await candidate.history("york")
    assert history["1"].ready_time == stamp(EVENING + 5 * HOUR)
    assert not (await candidate.history("zulu"))["2"].HasField("ready_time")


async def test_a_digest_is_ready_early_when_it_is_large(candidate: Candidate) -> None:
    kind = digest_type(maximum_wait=HOUR, minimum_count=3)
    await candidate.prepare(["anna", "bert"], kinds=[kind])
    reader = Reader(candidate)
    await candidate.publish(like("anna", "1", "x"), like("anna", "2", "y"))
    assert await reader.news() == []
    with at(NOW + timedelta(minutes=30)):
        await candidate.publish(like("anna", "3", "z"), *(like("bert", f"{n}") for n in range(3)))
        assert sorted(await reader.news()) == ["anna", "bert"]
        (digest,) = (await candidate.pool("anna"))["anna"]
    assert (digest.event_id, digest.merged_count) == ("1", 3)
    with at(NOW + 2 * HOUR):
        assert await reader.news() == []
    assert (await candidate.history("anna"))["1"].ready_time == stamp(NOW + timedelta(minutes=30))


async def test_more_actors_than_are_kept_are_counted(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], kinds=[digest_type(maximum_wait=HOUR)])
    for first in range(0, 90, 15):
        actors = [f"a{number}" for number in range(first, first + 30)]
        await candidate.publish(like("anna", f"{first}", *actors, actor_count=7))
    with at(NOW + HOUR):
        (digest,) = (await candidate.pool("anna"))["anna"]
    assert (digest.merged_count, digest.actor_count) == (6, 105)
    assert list(digest.actor_ids) == [f"a{number}" for number in range(73, 105)]


async def test_what_would_expire_is_not_held_and_a_held_digest_can_be_cancelled(
    candidate: Candidate,
) -> None:
    await candidate.prepare(["anna", "bert"], kinds=[digest_type(maximum_wait=HOUR)])
    reader = Reader(candidate)
    await candidate.publish(
        like("anna", "short", expire_time=stamp(NOW + HOUR)), like("bert", "held")
    )
    assert await candidate.pool_ids("anna") == ["short"]
    assert await reader.news() == ["anna"]
    dropped = pool_pb2.Settlement(
        user_id="bert", event_id="held", end=notification_pb2.EVENT_END_CANCELLED
    )
    await candidate.settle(dropped)
    with at(NOW + HOUR):
        assert await reader.news() == []


async def test_held_digests_count_in_the_pool(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], kinds=[digest_type(maximum_wait=HOUR), event_type("news")])
    await candidate.publish(
        like("anna", "held", source_score=0.1),
        *(event("anna", f"{n}", source_score=0.5) for n in range(5)),
    )
    entry = (await candidate.history("anna"))["held"]
    assert entry.end == notification_pb2.EVENT_END_EVICTED


@pytest.mark.parametrize(
    ("rules", "life"),
    [({"minimum_count": 3}, 0), ({"maximum_wait": 2 * HOUR}, 3600), ({"digest_hour": 24}, 0)],
)
async def test_rules_under_which_a_digest_never_gets_ready_are_refused(
    candidate: Candidate, rules: dict[str, Any], life: int
) -> None:
    kind = digest_type(**rules)
    if life:
        kind.time_to_live.CopyFrom(Duration(seconds=life))
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await candidate.stub.PutEventType(catalogue_pb2.PutEventTypeRequest(event_type=kind))
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(failure.value)


@pytest.fixture
async def engines(open_database: OpenDatabase) -> Engines:
    made = Engines(open_database("candidate"))
    await made.prepare(USERS)
    await made.types.put(digest_type(maximum_wait=HOUR), "", NOW)
    return made


async def test_digests_are_announced_once_and_none_is_missed_by_a_crash(engines: Engines) -> None:
    """Several tasks at once in small steps, one of them cut off before it commits."""
    offers = [draft(user, "e", kind="like")._replace(aggregation_key="post") for user in USERS]
    await engines.publisher.publish(offers, NOW)
    assert (await engines.pool.arrivals(Position(0, 0), 100)).user_ids == []
    async with engines.database.unit_of_work() as work:
        params = {"count": 7, "now": NOW + HOUR}
        (told,) = await work.rows(QUERIES.announce_digests, params)
        assert told.digests == 7  # and the process dies here: nothing is committed
        await engines.pool.announce_digests(5, NOW + HOUR)
    tasks = (engines.pool.announce_digests(3, NOW + HOUR) for _ in range(4))
    await asyncio.gather(*tasks)
    async with engines.database.read() as work:
        rows = await work.rows(text("SELECT unnest(user_ids) AS user_id FROM arrivals"))
    assert sorted(row.user_id for row in rows) == sorted(USERS)
