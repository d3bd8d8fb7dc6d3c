"""Shards and their front answer as one index does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from heliograph.candidate.v1alpha1 import (
    readback_pb2,
    recommending_pb2,
    sharding_pb2,
    sharding_pb2_grpc,
)
from heliograph.policy.v1alpha1 import policy_pb2_grpc
from heliograph.type.v1alpha1 import event_pb2
from sqlalchemy import text

from services.candidate.orders import shard_of
from services.candidate.questions import Choice, Page
from services.candidate.shards.client import Shards
from services.candidate.shards.conversion import write_choice, write_page
from services.runtime.clock import at
from services.runtime.database import Database
from services.runtime.errors import Unavailable
from services.runtime.server import database_url_of
from services.runtime.settings import ConfigurationError
from services.runtime.system import System
from tests.conftest import StartSystem
from tests.service.candidate.calls import (
    NOW,
    Candidate,
    event,
    fields_of,
    reason_of,
    reasons,
)
from tests.service.candidate.sharded import fit_folder, sharded
from tests.service.candidate.sharded_world import (
    ITEMS,
    LATER,
    SHARDS,
    USERS,
    Both,
    Parameters,
    fill,
    go_on,
    random_parameters,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(
    start_shared_system: StartSystem, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Both]:
    """A model of the first 60 users, 20 more who came later, and 10 who have done nothing."""
    random, folder = Random(7), tmp_path_factory.mktemp("shards") / "model"
    environ = {"HELIOGRAPH_CANDIDATE_MODEL_FOLDER": str(folder)}
    async with start_shared_system("policy", "candidate", simulation=True, environ=environ) as one:
        if not isinstance(one, System):
            pytest.skip("shards are started in this process")
        whole = Candidate(one.channel("candidate"))
        policy = policy_pb2_grpc.PolicyServiceStub(one.channel("policy"))
        database = Database(database_url_of(one.settings, "candidate"))
        with at(NOW):
            await fill(whole, policy, random)
            await fit_folder(database, folder)
        with pytest.MonkeyPatch.context() as patch:
            async with sharded(one.settings, patch, folder, SHARDS) as (made, front, channel):
                with at(NOW + timedelta(minutes=30)):
                    await go_on(front, random)
                yield Both(whole, front, channel, made, database)
        await database.close()


@pytest.fixture(autouse=True)
def _time() -> Iterator[None]:
    with at(LATER):
        yield


async def test_answers_are_those_of_one_index(both: Both) -> None:
    random = Random(11)
    for _ in range(20):
        item = random.choice(ITEMS)
        asked = recommending_pb2.RecommendUsersToItemRequest(
            item_id=item, parameters=random_parameters(random, users=True)
        )
        await both.same("RecommendUsersToItem", asked)
        estimate = recommending_pb2.EstimateAudienceRequest(
            item_id=item, parameters=asked.parameters
        )
        measured = await both.same("EstimateAudience", estimate)
        assert measured.HasField("horizon")
    for user in random.sample(USERS, 15):
        own = recommending_pb2.RecommendItemsToUserRequest(
            user_id=user, parameters=random_parameters(random, users=False)
        )
        await both.same("RecommendItemsToUser", own)
        alike = recommending_pb2.RecommendUsersToUserRequest(
            user_id=user, parameters=random_parameters(random, users=True)
        )
        for reciprocal in (False, True):
            alike.reciprocal = reciprocal
            found = await both.same("RecommendUsersToUser", alike)
            assert user not in [each.user_id for each in found.users]


async def test_groups_and_new_items_are_those_of_one_index(both: Both) -> None:
    random = Random(5)
    groups: list[dict[str, Any]] = [
        {"user_ids": random.sample(USERS, 30)},
        {"user_ids": [USERS[85], "nobody"]},
        {"user_ids": USERS[80:]},
        {"segment_filter": "user.age > 40"},
        {"segment_filter": "has(user.rare)"},
    ]
    for group in groups:
        for _ in range(3):
            parameters = random_parameters(random, users=False)
            asked = recommending_pb2.RecommendItemsToSegmentRequest(**group, parameters=parameters)
            await both.same("RecommendItemsToSegment", asked)
    for topic in "abz":
        item = event_pb2.Item(item_id="new", title="something new")
        item.attributes["topic"].string_value = topic
        parameters = random_parameters(random, users=True)
        unstored = recommending_pb2.RecommendUsersToItemRequest(item=item, parameters=parameters)
        await both.same("RecommendUsersToItem", unstored)
        measured = recommending_pb2.EstimateAudienceRequest(item=item, parameters=parameters)
        await both.same("EstimateAudience", measured)


@pytest.mark.parametrize("diversity", [0.0, 0.4])
@pytest.mark.parametrize(
    "question",
    [
        recommending_pb2.RecommendUsersToItemRequest(item_id="i05"),
        recommending_pb2.RecommendUsersToUserRequest(user_id=USERS[4]),
        recommending_pb2.RecommendUsersToUserRequest(user_id=USERS[4], reciprocal=True),
    ],
    ids=["item", "user", "both ways"],
)
async def test_pages_of_users_are_those_of_one_index(
    both: Both, question: Any, diversity: float
) -> None:
    asked = deepcopy(question)
    asked.parameters.CopyFrom(
        Parameters(count=11, diversity_attribute="group", diversity=diversity)
    )
    whole, front = [await _pages(one, asked) for one in (both.whole, both.front)]
    found = [[(user.user_id, user.score) for user in page.users] for page in front]
    assert found == [[(user.user_id, user.score) for user in page.users] for page in whole]
    assert len(found) > 5
    asked.parameters.count = 1000
    (everyone,) = await _pages(both.front, asked)
    assert [user for page in front for user in page.users] == list(everyone.users)


@pytest.mark.parametrize("diversity", [0.0, 0.4])
@pytest.mark.parametrize(
    "question",
    [
        recommending_pb2.RecommendItemsToUserRequest(user_id=USERS[4]),
        recommending_pb2.RecommendItemsToSegmentRequest(user_ids=USERS[::7]),
    ],
    ids=["user", "segment"],
)
async def test_pages_of_items_are_those_of_one_index(
    both: Both, question: Any, diversity: float
) -> None:
    asked = deepcopy(question)
    asked.parameters.CopyFrom(Parameters(count=3, diversity_attribute="topic", diversity=diversity))
    whole, front = [await _pages(one, asked) for one in (both.whole, both.front)]
    found = [[item.item_id for item in page.items] for page in front]
    assert found == [[item.item_id for item in page.items] for page in whole]
    assert len(found) > 3
    asked.parameters.count = 1000
    (everything,) = await _pages(both.front, asked)
    assert [item for page in front for item in page.items] == list(everything.items)


async def _pages(one: Candidate, question: Message) -> list[Any]:
    request: Any = deepcopy(question)
    ask = getattr(one.stub, type(request).__name__.removesuffix("Request"))
    pages: list[Any] = []
    while not pages or request.page_token:
        pages.append(await ask(request))
        request.page_token = pages[-1].next_page_token
    return pages


async def test_a_front_reads_back_what_anyone_answered(both: Both) -> None:
    pages = await _pages(both.front, recommending_pb2.RecommendItemsToUserRequest(user_id=USERS[4]))
    name = pages[0].recommendation_id
    asked = readback_pb2.GetRecommendationRequest(recommendation_id=name, page_size=1000)
    kept, same = [await one.stub.GetRecommendation(asked) for one in (both.front, both.whole)]
    assert kept == same
    assert list(kept.returned_ids) == [item.item_id for page in pages for item in page.items]


async def test_errors_are_those_of_one_index(both: Both) -> None:
    users, items = recommending_pb2.RecommendUsersToItemRequest, "RecommendItemsToSegment"
    segment = recommending_pb2.RecommendItemsToSegmentRequest
    wrong: list[tuple[str, Message]] = [
        ("RecommendUsersToItem", users(item_id="nothing")),
        ("RecommendUsersToItem", users(item_id="i01", parameters=Parameters(filter="user.x > 1"))),
        (
            "RecommendUsersToItem",
            users(item_id="i01", parameters=Parameters(diversity_attribute="x")),
        ),
        ("RecommendItemsToUser", recommending_pb2.RecommendItemsToUserRequest(user_id="nobody")),
        ("RecommendUsersToUser", recommending_pb2.RecommendUsersToUserRequest(user_id="nobody")),
        (items, segment(user_ids=["nobody"])),
        (items, segment(segment_filter="user.age > 400")),
        (items, segment(segment_filter="user.nothing")),
    ]
    for method, request in wrong:
        told = []
        for one in (both.whole, both.front):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await getattr(one.stub, method)(request)
            error = raised.value
            told.append((error.code(), error.details(), reason_of(error), fields_of(error)))
        assert told[0] == told[1]


async def test_a_shard_refuses_steps_of_a_match_that_are_out_of_turn(both: Both) -> None:
    stub = sharding_pb2_grpc.ShardServiceStub(
        both.made.peers.channel_to("matched", both.made.addresses[0])
    )
    user = next(name for name in USERS if shard_of(name, SHARDS) == 0)
    told = await stub.DescribeUser(sharding_pb2.DescribeUserRequest(user_id=user))
    choice, page = write_choice(Choice(count=3)), write_page(Page("r", LATER))

    def asked(taste: Sequence[float]) -> sharding_pb2.MatchUsersRequest:
        question = sharding_pb2.FindUsersRequest(choice=choice, page=page)
        question.user.CopyFrom(sharding_pb2.UserTaste(user_id=user, vector=taste))
        return sharding_pb2.MatchUsersRequest(question=question)

    async def answered(*steps: sharding_pb2.MatchUsersRequest) -> list[Any]:
        return [answer async for answer in stub.MatchUsers(iter(steps))]

    first, step = asked(told.taste), sharding_pb2.MatchUsersRequest
    size = len((await anext(aiter(stub.MatchUsers(iter([first]))))).cosines.values)
    nearer = step(
        nearer=sharding_pb2.Nearer(
            counts=sharding_pb2.Numbers(values=bytes(size)), others=80, most=5
        )
    )
    places = sharding_pb2.CandidatePlaces(places=[1, 0])
    *_, found, tastes = await answered(first, nearer, step(places=places))
    assert len(found.candidates.ids) == 5
    assert len(tastes.tastes.vectors) == 2 * 4 * len(told.taste)
    cut = sharding_pb2.Nearer(others=80, most=5, counts=sharding_pb2.Numbers(values=b"abc"))
    wrong: list[tuple[str, list[sharding_pb2.MatchUsersRequest]]] = [
        ("first step", [nearer]),
        ("first step", []),
        ("have .* numbers", [asked([1.0])]),
        ("cut short", [first]),
        ("cut short", [first, step(nearer=cut)]),
        ("second step", [first, step(places=places)]),
        ("not as many as cosines", [first, step(nearer=_less(nearer.nearer))]),
        ("out of turn", [first, nearer, nearer]),
        ("there are 5", [first, nearer, step(places=sharding_pb2.CandidatePlaces(places=[5]))]),
        ("not as many as places", [first, nearer, step(matched=places)]),
        (
            "width",
            [first, nearer, step(tastes=sharding_pb2.Tastes(vectors=bytes(4), least=bytes(4)))],
        ),
    ]
    for problem, steps in wrong:
        with pytest.raises(grpc.aio.AioRpcError, match=problem) as raised:
            await answered(*steps)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def _less(nearer: sharding_pb2.Nearer) -> sharding_pb2.Nearer:
    counts = sharding_pb2.Numbers(values=nearer.counts.values[4:])
    return sharding_pb2.Nearer(counts=counts, others=nearer.others, most=nearer.most)


async def test_items_of_events_are_ranked_and_generation_is_that_of_one_index(both: Both) -> None:
    pools = []
    for one in (both.front, both.whole):
        await one.publish(
            *(event(user, "e1", item_ids=ITEMS[:6]) for user in USERS[:10]), event("nobody", "e1")
        )
        progress = await one.generate(day="2026-01-05")
        assert progress[-1].done
        assert not any(part.done for part in progress[:-1])
        assert progress[-1].user_count == progress[-1].total_user_count == len(USERS)
        pools.append((_counts(progress[-1]), await _events(one)))
        again = await one.generate(day="2026-01-05", user_ids=[*USERS[:5], "nobody"])
        assert again[-1].user_count == 5
        assert not any(source.accepted_count for source in again[-1].sources)
        async with both.database.unit_of_work() as work:
            tables = "events, generated, generation_yields, generation_runs"
            await work.execute(text(f"TRUNCATE {tables} CASCADE"))
            await work.execute(text("UPDATE users SET pool_bound = 0"))
            await work.commit()
    assert pools[0][0] == pools[1][0]
    assert pools[0][1].keys() == pools[1][1].keys()
    for key, (items, score, source, actors) in pools[0][1].items():
        expected = pools[1][1][key]
        assert (items, source, actors) == (expected[0], expected[2], expected[3])
        assert score == pytest.approx(expected[1], rel=1e-5)
    assert {entry[2] for entry in pools[0][1].values()} >= {"friend_activity", "following"}


def _counts(answer: Any) -> dict[str, tuple[int, ...]]:
    return {
        each.source: (each.proposed_count, each.accepted_count, each.asked_user_count)
        for each in answer.sources
    }


async def _events(one: Candidate) -> dict[tuple[str, str], Any]:
    found = await one.pool(*USERS, limit=200)
    return {
        (user, each.event_id): (
            list(each.item_ids),
            each.source_score,
            each.source,
            sorted(each.actor_ids),
        )
        for user, events in found.items()
        for each in events
    }


async def test_a_new_model_is_served_by_all_shards_or_not_at_all(both: Both) -> None:
    asked = recommending_pb2.RecommendUsersToItemRequest(item_id="i05")
    before = await both.same("RecommendUsersToItem", asked)
    await fit_folder(both.database, both.made.folder)
    first = sharding_pb2_grpc.ShardServiceStub(
        both.made.peers.channel_to("first", both.made.addresses[0])
    )
    await first.GetShard(sharding_pb2.GetShardRequest(refresh=True))
    seen = Shards(both.made.peers, both.made.addresses)
    with pytest.raises(Unavailable) as raised:
        await seen.question().all(lambda stub, _: stub.GetShard(sharding_pb2.GetShardRequest()))
    assert raised.value.reason == "SHARD_MODELS_DIFFER"
    with at(LATER + timedelta(minutes=2)):  # when the whole index looks into the folder, too
        after = await both.same("RecommendUsersToItem", asked)
    assert after != before


async def test_a_missing_shard_is_named_and_comes_back(both: Both) -> None:
    asked = recommending_pb2.RecommendUsersToItemRequest(item_id="i05")
    before = await both.same("RecommendUsersToItem", asked)
    gone, stays = (next(u for u in USERS if shard_of(u, SHARDS) == shard) for shard in (1, 2))
    own = recommending_pb2.RecommendItemsToUserRequest
    alike = recommending_pb2.RecommendUsersToUserRequest(user_id=stays, reciprocal=True)
    assert (await both.front.stub.RecommendUsersToUser(alike)).users
    await both.made.shards[1].stop(0)
    calls: list[Any] = [
        both.front.stub.RecommendUsersToItem(asked),
        both.front.stub.RecommendItemsToUser(own(user_id=gone)),
        both.front.stub.RecommendUsersToUser(alike),
        both.front.stub.EstimateAudience(recommending_pb2.EstimateAudienceRequest(item_id="i05")),
        both.front.generate(day="2026-01-06"),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert f"shard 1 of {SHARDS} at {both.made.addresses[1]}" in str(raised.value.details())
        assert reason_of(raised.value) == "SHARD_UNAVAILABLE"
    assert await _until(both, health_pb2.HealthCheckResponse.NOT_SERVING)
    assert (await both.front.stub.RecommendItemsToUser(own(user_id=stays))).items
    items = ["i03", "i01", "i02"]
    for user in (gone, stays):
        await both.front.publish(event(user, "e2", item_ids=items))
    pools = await both.front.pool(gone, stays)
    assert list(_named(pools[gone], "e2").item_ids) == items
    assert sorted(_named(pools[stays], "e2").item_ids) == sorted(items)
    await both.made.start_shard(1, SHARDS, both.made.addresses[1])
    assert await _until(both, health_pb2.HealthCheckResponse.SERVING)
    assert await both.same("RecommendUsersToItem", asked) == before


async def test_an_odd_value_changes_no_type_of_any_shard(both: Both) -> None:
    """Nor does a shard that starts again, or one none of whose users has the attribute."""
    odd = event_pb2.User(user_id=USERS[0])
    odd.attributes["age"].number_value = 44.5
    rejected = await both.front.users([odd])
    assert reasons(rejected.rejections) == {0: "ATTRIBUTE_TYPE"}
    odd.attributes["age"].number_value = 44.0
    odd.attributes["rare"].bool_value = True
    assert (await both.front.users([odd])).rejected_count == 0
    with at(LATER + timedelta(hours=1)):
        request = recommending_pb2.RecommendUsersToItemRequest(
            item_id="i05", parameters=Parameters(count=200, filter="user.age > 30")
        )
        assert len((await both.same("RecommendUsersToItem", request)).users) > 9
        shard = shard_of(USERS[0], SHARDS)
        await both.made.shards[shard].stop(0)
        assert await _until(both, health_pb2.HealthCheckResponse.NOT_SERVING)
        await both.made.start_shard(shard, SHARDS, both.made.addresses[shard])
        assert await _until(both, health_pb2.HealthCheckResponse.SERVING)
        assert len((await both.same("RecommendUsersToItem", request)).users) > 9


async def _until(both: Both, status: health_pb2.HealthCheckResponse.ServingStatus) -> bool:
    """Wait until the front says so of its shards."""
    watch = both.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    name = sharding_pb2.DESCRIPTOR.services_by_name["ShardService"].full_name
    async for answer in watch(health_pb2.HealthCheckRequest(service=name)):
        if answer.status == status:
            return True
    return False


def _named(events: Sequence[event_pb2.Event], name: str) -> event_pb2.Event:
    return next(each for each in events if each.event_id == name)


async def test_shards_that_do_not_fit_together_are_refused(
    both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = both.made.addresses
    both.made.addresses = [addresses[1], addresses[0], addresses[2]]
    with pytest.raises(ConfigurationError, match="is shard 1 of 3, not 0 of 3"):
        await both.made.start_front()
    both.made.addresses = addresses[:2]
    with pytest.raises(ConfigurationError, match="is shard 0 of 3, not 0 of 2"):
        await both.made.start_front()
    both.made.addresses = addresses
    folder, both.made.folder = both.made.folder, tmp_path / "none"
    with pytest.raises(ConfigurationError, match="heliograph candidate fit"):
        await both.made.start_shard(SHARDS, SHARDS + 1)
    both.made.folder = folder
    await both.made.shards[2].stop(0)
    await both.made.start_shard(2, SHARDS + 1, addresses[2])
    asked = recommending_pb2.RecommendUsersToItemRequest(item_id="i05")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await both.front.stub.RecommendUsersToItem(asked)
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(raised.value) == "WRONG_SHARD"
