"""Daily generation: social sources, what is skipped, shards, and runs that are cut off."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from unittest.mock import patch

import numpy as np
import pytest
from heliograph.candidate.v1alpha1 import generating_pb2, publishing_pb2
from heliograph.type.v1alpha1 import attribute_pb2, event_pb2
from prometheus_client import REGISTRY
from sqlalchemy import text

from services.candidate.generation import EXPLORATION_SALT
from services.candidate.orders import shard_of
from services.candidate.sources import Ranking
from services.candidate.sources.popular import Popular
from services.runtime.clock import at
from services.runtime.database import Database
from services.runtime.hashing import unit_hash
from tests.conftest import OpenDatabase, StartSystem
from tests.service.candidate.calls import (
    NOW,
    Candidate,
    event_type,
    follows,
    friend,
    interaction,
    stamp,
)

USERS = [f"u{number:02}" for number in range(30)]
ITEMS = [f"i{number:02}" for number in range(8)]
EXPLORED = 0.25
Answer = generating_pb2.GenerateDailyResponse


@pytest.fixture
async def world(start_system: StartSystem) -> AsyncIterator[Candidate]:
    """Old items that u00 to u19 know one of each; small chunks, a source given up fast."""
    environ = {
        "HELIOGRAPH_CANDIDATE_FACTORS": "2",
        "HELIOGRAPH_CANDIDATE_GENERATE_CHUNK": "4",
        "HELIOGRAPH_CANDIDATE_LEAST_AVAILABILITY": "0.25",
        "HELIOGRAPH_CANDIDATE_EXPLORATION_SHARE": str(EXPLORED),
    }
    async with start_system("candidate", simulation=True, environ=environ) as system:
        with at(NOW):
            candidate = Candidate(system.channel("candidate"))
            await candidate.prepare(USERS, kinds=[event_type("item.suggestion")])
            old = stamp(NOW - timedelta(days=90))
            await candidate.items([event_pb2.Item(item_id=n, create_time=old) for n in ITEMS])
            await candidate.interactions(
                [interaction(user, ITEMS[n % len(ITEMS)]) for n, user in enumerate(USERS[:20])]
            )
            yield candidate


def sources(progress: list[Answer]) -> dict[str, generating_pb2.SourceProgress]:
    assert progress[-1].done
    return {source.source: source for source in progress[-1].sources}


def accepted(progress: list[Answer]) -> int:
    return sum(source.accepted_count for source in progress[-1].sources)


async def test_followers_and_friends_are_told_why(world: Candidate) -> None:
    made = event_pb2.Item(item_id="update", create_time=stamp(NOW - timedelta(days=1)))
    made.attributes["creator"].CopyFrom(attribute_pb2.AttributeValue(string_value="studio"))
    await world.items([made])
    await world.relations(
        follows("u00", "studio"), friend("u01", "u20"), friend("u20", "u09", 0.5),
        follows("u21", "elsewhere"),
    )  # fmt: skip
    found = sources(await world.generate())
    assert (found["following"].asked_user_count, found["following"].accepted_count) == (1, 1)
    assert found["friend_activity"].asked_user_count == 1  # only u20's friends know something
    update = (await world.history("u00"))["daily:2026-01-05:update"].event
    assert (update.source, list(update.actor_ids)) == ("following", ["studio"])
    assert update.payload["reason"] == "FOLLOWED_CREATOR"
    liked = (await world.history("u20"))["daily:2026-01-05:i01"].event
    assert (liked.source, list(liked.actor_ids)) == ("friend_activity", ["u01", "u09"])
    assert liked.payload["reason"] == "FRIENDS_LIKED"
    assert liked.source_score > update.source_score * 0.5
    other = (await world.history("u21"))["daily:2026-01-05:update"].event
    assert (other.source, list(other.actor_ids)) == ("fresh", [])
    assert other.payload["reason"] == "NEW_ITEM"


async def test_a_removed_tie_suggests_nothing(world: Candidate) -> None:
    await world.relations(friend("u01", "u20"))
    assert sources(await world.generate(user_ids=["u20"]))["friend_activity"].accepted_count == 1
    await world.relations(friend("u20", "u01", removed=True))
    with at(NOW + timedelta(days=1)):
        found = sources(await world.generate(user_ids=["u20"]))
    assert found["friend_activity"].asked_user_count == 0


def nothing(self: Popular, users: np.ndarray, *_: object) -> Ranking:
    return Ranking(np.empty((len(users), 0), np.int64), np.empty((len(users), 0), np.float32))


async def test_a_source_without_yield_is_skipped_but_for_the_explored(world: Candidate) -> None:
    """u20 to u29 are new, the others active; `popular` has nothing for anyone on the first day."""
    with patch.object(Popular, "candidates", nothing):
        first = sources(await world.generate(sources=["popular"]))["popular"]
    assert (first.asked_user_count, first.skipped_user_count) == (30, 0)
    assert first.HasField("ask_time")
    explored = {u for u in USERS if unit_hash(EXPLORATION_SALT, "2026-01-06", u) < EXPLORED}
    active, new = set(USERS[:20]), set(USERS[20:])
    assert explored & active
    with at(NOW + timedelta(days=1)):
        second = sources(await world.generate(sources=["popular"]))["popular"]
        pool = await world.pool(*USERS)
        again = sources(await world.generate(sources=["popular"]))["popular"]
    # Of 10 new users without yield too little is known; of 20 active ones enough.
    asked = new | (explored & active)
    assert (second.asked_user_count, second.skipped_user_count) == (len(asked), 30 - len(asked))
    assert set(pool) == asked
    per_user = Counter(len(pool[user]) for user in explored & active)
    assert second.lost_count == pytest.approx(
        second.skipped_user_count
        * sum(count * users for count, users in per_user.items())
        / per_user.total()
    )
    assert second.lost_count_error > 0
    assert second.saved_time.ToTimedelta() > timedelta(0)
    assert (again.asked_user_count, again.skipped_user_count) == (0, second.skipped_user_count)
    with at(NOW + timedelta(days=1)):
        rest = sources(await world.generate(sources=["popular"], ask_all=True))["popular"]
        assert (rest.asked_user_count, rest.skipped_user_count) == (30 - len(asked), 0)
        assert set(await world.pool(*USERS)) == set(USERS)


async def test_shards_cover_every_user_once(world: Candidate) -> None:
    parts = [await world.generate(shard=shard, shard_count=2) for shard in range(2)]
    for shard, part in enumerate(parts):
        own = [user for user in USERS if shard_of(user, 2) == shard]
        assert part[-1].user_count == len(own)
        assert sources(part)["popular"].asked_user_count == len(own)
    whole = await world.pool(*USERS)
    assert set(whole) == set(USERS)
    assert sum(map(len, whole.values())) == sum(map(accepted, parts))
    assert accepted(await world.generate()) == 0


@pytest.mark.parametrize("chunks", [1, 3])
async def test_a_run_that_was_cut_off_goes_on_and_adds_nothing_twice(
    world: Candidate, open_database: OpenDatabase, chunks: int
) -> None:
    """Cut off by its caller while the next chunk is under way, like by a kill: what was committed
    stands, the rest is rolled back."""
    request = generating_pb2.GenerateDailyRequest(shard_count=1)
    call = world.stub.GenerateDaily(request)
    for _ in range(chunks):
        assert not (await call.read()).done
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    await until_ended()
    database = open_database("candidate")
    before = await counted(database)
    assert before["users"] >= 4 * chunks
    assert before["events"] == before["accepted"]
    rest = await world.generate()
    after = await counted(database)
    assert after["users"] == after["asked"] == len(USERS)
    assert after["events"] == after["accepted"] == before["events"] + accepted(rest)
    assert sources(rest)["popular"].asked_user_count == len(USERS) - before["users"]
    listed = publishing_pb2.ListUserEventsRequest(user_id="u00", page_size=1000)
    ids = [entry.event.event_id for entry in (await world.stub.ListUserEvents(listed)).events]
    assert len(ids) == len(set(ids)) > 0
    await world.generate()
    assert await counted(database) == after


async def test_two_runs_at_once_add_nothing_twice(
    world: Candidate, open_database: OpenDatabase
) -> None:
    runs = await asyncio.gather(*(world.generate() for _ in range(3)))
    total = await counted(open_database("candidate"))
    assert total["events"] == total["accepted"] == sum(map(accepted, runs))
    assert total["asked"] == len(USERS)


async def until_ended() -> None:
    """Return when the service has ended all calls of GenerateDaily: a commit that is under way may
    still succeed."""
    labels = {"method": "GenerateDaily"}
    while True:
        found = REGISTRY.get_sample_value("heliograph_candidate_open_calls", labels)
        assert found is not None
        if not found:
            return
        await asyncio.sleep(0.01)


async def counted(database: Database) -> dict[str, int]:
    """Users that are marked, events, and what the runs say of them."""
    query = text(
        """
        SELECT (SELECT count(*) FROM generated) AS users, (SELECT count(*) FROM events) AS events,
            coalesce(sum(accepted), 0) AS accepted,
            coalesce(sum(asked) FILTER (WHERE source = 'popular'), 0) AS asked
        FROM generation_yields
        """
    )
    async with database.read() as work:
        (row,) = await work.rows(query)
    return {name: int(value) for name, value in row._mapping.items()}


async def test_progress_tells_the_time_by_stage(world: Candidate) -> None:
    progress = await world.generate()
    assert [part.user_count for part in progress] == [*range(4, 29, 4), 30]
    stages = {stage.stage: stage.wall_time.ToTimedelta() for stage in progress[-1].stages}
    assert list(stages) == ["read", "propose", "publish", "mark", "commit"]
    assert min(stages.values()) > timedelta(0)


async def test_invariant_11_all_sources_may_fail(world: Candidate) -> None:
    """Nothing is marked, so that the next run of the day asks them again."""
    with patch.object(Popular, "candidates", side_effect=RuntimeError("out of order")):
        broken = sources(await world.generate(sources=["popular"]))["popular"]
    assert (broken.failed_user_count, broken.asked_user_count) == (30, 0)
    assert sources(await world.generate(sources=["popular"]))["popular"].asked_user_count == 30
