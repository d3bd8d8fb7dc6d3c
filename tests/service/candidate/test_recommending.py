"""Recommendations, daily generation and campaigns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from heliograph.candidate.v1alpha1 import campaigns_pb2, generating_pb2, recommending_pb2
from heliograph.type.v1alpha1 import attribute_pb2, event_pb2

from services.candidate.sources.popular import Popular
from services.runtime.clock import at
from tests.service.candidate.calls import (
    IMMEDIATE,
    NOW,
    Candidate,
    event_type,
    fields_of,
    interaction,
    reason_of,
    stamp,
)

USERS = [f"u{number:02}" for number in range(20)]
ITEMS = [f"i{number:02}" for number in range(12)]
Parameters = recommending_pb2.RecommendationParameters


@pytest.fixture
async def world(candidate: Candidate) -> Candidate:
    """Even users like most even items, odd users odd ones; u00 knows i00 only, and of i10 and i11
    nobody knows anything. The user "new" has done nothing."""
    users = [event_pb2.User(user_id=name) for name in [*USERS, "new"]]
    for user in users:
        user.attributes["age"].int_value = 30
    await candidate.users(users)
    await candidate.items(
        [event_pb2.Item(item_id=n, create_time=stamp(NOW - timedelta(days=90))) for n in ITEMS]
    )
    await candidate.prepare(
        kinds=[event_type("item.suggestion"), event_type("offer"), event_type("code", IMMEDIATE)]
    )
    liked = [
        interaction(user, item)
        for u, user in enumerate(USERS)
        for i, item in enumerate(ITEMS[:10])
        if (u + i) % 2 == 0 and (u + 3 * i) % 5 != 0 and (u > 0 or i == 0)
    ]
    await candidate.interactions([*liked, interaction("u00", "i00")])
    return candidate


async def users_to_item(world: Candidate, item: str, **fields: Any) -> Any:
    request = recommending_pb2.RecommendUsersToItemRequest(item_id=item, **fields)
    return await world.stub.RecommendUsersToItem(request)


async def test_users_to_item_finds_those_of_like_taste(world: Candidate) -> None:
    answer = await users_to_item(world, "i02", parameters=Parameters(count=5))
    assert answer.basis == recommending_pb2.BASIS_INTERACTIONS
    assert answer.interaction_count > 0
    scores = [user.score for user in answer.users]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    best = [user.user_id for user in answer.users[:2]]
    assert all(int(name[1:]) % 2 == 0 for name in best)
    everyone = await users_to_item(
        world, "i02", parameters=Parameters(count=1000, include_interacted=True)
    )
    assert len(everyone.users) == len(USERS) + 1
    assert len({user.user_id for user in everyone.users}) == len(USERS) + 1


async def test_pages_fit_together(world: Candidate) -> None:
    parameters = Parameters(count=1000, include_interacted=True, returned_attributes=["age", "x"])
    whole = await users_to_item(world, "i02", parameters=parameters)
    parameters.count = 4
    names, token, ids = [], "", set()
    while True:
        page = await users_to_item(world, "i02", parameters=parameters, page_token=token)
        names += [user.user_id for user in page.users]
        ids.add(page.recommendation_id)
        token = page.next_page_token
        if not token:
            break
    assert names == [user.user_id for user in whole.users]
    assert len(ids) == 1
    assert whole.users[0].attributes["age"].int_value == 30
    assert list(whole.users[0].attributes) == ["age"]
    first = await users_to_item(world, "i02", parameters=parameters)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await users_to_item(world, "i04", parameters=parameters, page_token=first.next_page_token)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(failure.value) == ["page_token"]


async def test_min_relevance_leaves_out(world: Candidate) -> None:
    everyone = await users_to_item(world, "i02")
    least = everyone.users[len(everyone.users) // 2].score
    some = await users_to_item(world, "i02", parameters=Parameters(min_relevance=least))
    assert list(some.users) == [user for user in everyone.users if user.score >= least]
    assert 0 < len(some.users) < len(everyone.users)


async def test_cold_starts_say_so(world: Candidate) -> None:
    item = await users_to_item(world, "i11")
    assert (item.basis, item.interaction_count) == (recommending_pb2.BASIS_COLD_START, 0)
    assert "new" in [user.user_id for user in item.users[-2:]]
    user = await world.stub.RecommendItemsToUser(
        recommending_pb2.RecommendItemsToUserRequest(user_id="new")
    )
    assert (user.basis, user.interaction_count) == (recommending_pb2.BASIS_COLD_START, 0)
    counts = [entry.interaction_count for entry in user.items]
    assert sorted(counts)[:2] == [0, 0]
    alike = await world.stub.RecommendUsersToUser(
        recommending_pb2.RecommendUsersToUserRequest(user_id="new")
    )
    assert alike.basis == recommending_pb2.BASIS_COLD_START


async def test_items_to_user_leaves_out_what_is_known(world: Candidate) -> None:
    answer = await world.stub.RecommendItemsToUser(
        recommending_pb2.RecommendItemsToUserRequest(user_id="u00")
    )
    names = [item.item_id for item in answer.items]
    assert answer.basis == recommending_pb2.BASIS_INTERACTIONS
    assert "i00" not in names
    assert int(names[0][1:]) % 2 == 0


@pytest.mark.parametrize("reciprocal", [False, True])
async def test_users_to_user(world: Candidate, reciprocal: bool) -> None:
    request = recommending_pb2.RecommendUsersToUserRequest(
        user_id="u04", parameters=Parameters(count=4), reciprocal=reciprocal
    )
    answer = await world.stub.RecommendUsersToUser(request)
    names = [user.user_id for user in answer.users]
    assert "u04" not in names
    assert len(names) == 4
    assert all(int(name[1:]) % 2 == 0 for name in names)


async def test_items_to_segment(world: Candidate) -> None:
    request = recommending_pb2.RecommendItemsToSegmentRequest(
        user_ids=["u02", "u04", "nobody", "u06"]
    )
    answer = await world.stub.RecommendItemsToSegment(request)
    assert answer.user_count == 3
    assert int(answer.items[0].item_id[1:]) % 2 == 0


async def test_unknown_subjects_are_not_found(world: Candidate) -> None:
    calls = [
        (users_to_item(world, "nothing"), "UNKNOWN_ITEM"),
        (
            world.stub.RecommendItemsToUser(
                recommending_pb2.RecommendItemsToUserRequest(user_id="x")
            ),
            "UNKNOWN_USER",
        ),
        (
            world.stub.RecommendUsersToUser(
                recommending_pb2.RecommendUsersToUserRequest(user_id="x")
            ),
            "UNKNOWN_USER",
        ),
        (
            world.stub.RecommendItemsToSegment(
                recommending_pb2.RecommendItemsToSegmentRequest(user_ids=["x"])
            ),
            "UNKNOWN_USER",
        ),
    ]
    for call, reason in calls:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call
        assert failure.value.code() is grpc.StatusCode.NOT_FOUND
        assert reason_of(failure.value) == reason


async def test_what_comes_later_is_unimplemented_by_field(world: Candidate) -> None:
    later = Parameters(
        scenario="x",
        rotation_rate=0.5,
        rotation_time=Duration(seconds=1),
    )
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await users_to_item(
            world, "i02", parameters=later, respect_budget=True, diversity_attribute="age"
        )
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert sorted(fields_of(failure.value)) == [
        "diversity_attribute",
        "parameters.rotation_rate",
        "parameters.rotation_time",
        "parameters.scenario",
        "respect_budget",
    ]


async def test_filter_and_booster_choose_among_users(world: Candidate) -> None:
    """u04 and u06 are loyal, u02 is not, nobody else has a group."""
    groups = {"u02": "casual", "u04": "loyal", "u06": "loyal"}
    await world.users(
        [
            event_pb2.User(
                user_id=name,
                attributes={"group": attribute_pb2.AttributeValue(string_value=group)},
            )
            for name, group in groups.items()
        ]
    )
    everyone = (await users_to_item(world, "i02")).users
    scores = {one.user_id: one.score for one in everyone}
    loyal = await users_to_item(world, "i02", parameters=Parameters(filter='user.group == "loyal"'))
    assert {one.user_id for one in loyal.users} == {"u04", "u06"} & scores.keys()
    factors = 'has(user.group) && user.group == "loyal" ? 3.0 : 0.5'
    boosted = (await users_to_item(world, "i02", parameters=Parameters(booster=factors))).users
    assert {one.user_id: one.score for one in boosted} == pytest.approx(
        {
            name: score * (3.0 if groups.get(name) == "loyal" else 0.5)
            for name, score in scores.items()
        }
    )
    found = [one.score for one in boosted]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize(
    ("name", "text_", "told"),
    [
        ("filter", "1 = 1", "line 1, column 3"),
        ("filter", "user.nothing == 1", "nothing"),
        ("filter", "1 + 1", "bool"),
        ("booster", '"a"', "int"),
    ],
)
async def test_wrong_expressions_are_told_with_their_place(
    world: Candidate, name: str, text_: str, told: str
) -> None:
    parameters = Parameters()
    setattr(parameters, name, text_)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await users_to_item(world, "i02", parameters=parameters)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(failure.value) == [f"parameters.{name}"]
    assert told in (failure.value.details() or "")


async def test_items_are_not_filtered_yet(world: Candidate) -> None:
    request = recommending_pb2.RecommendItemsToUserRequest(
        user_id="u02", parameters=Parameters(filter="true", booster="2.0")
    )
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await world.stub.RecommendItemsToUser(request)
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert sorted(fields_of(failure.value)) == ["parameters.booster", "parameters.filter"]


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1])
async def test_min_relevance_out_of_range(world: Candidate, value: float) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await users_to_item(world, "i02", parameters=Parameters(min_relevance=value))
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(failure.value) == ["parameters.min_relevance"]


def accepted(progress: Sequence[generating_pb2.GenerateDailyResponse]) -> int:
    return sum(source.accepted_count for source in progress[-1].sources)


async def test_a_rerun_of_a_day_adds_nothing(world: Candidate) -> None:
    first = await world.generate(candidates_per_source=2)
    assert first[-1].done
    assert first[-1].user_count == first[-1].total_user_count == len(USERS) + 1
    assert accepted(first) > 0
    pool = await world.pool(*USERS, "new")
    assert sum(map(len, pool.values())) == accepted(first)
    one = pool["u04"][0]
    assert one.event_id == f"daily:2026-01-05:{one.item_ids[0]}"
    assert one.event_type == "item.suggestion"
    await world.interactions([interaction("u04", "i11", 10.0)])  # another fit, other proposals
    again = await world.generate(candidates_per_source=2)
    assert accepted(again) == 0
    assert await world.pool(*USERS, "new") == pool


async def test_the_next_day_proposes_other_items(world: Candidate) -> None:
    await world.generate(candidates_per_source=1)
    with at(NOW + timedelta(days=1)):
        await world.generate(candidates_per_source=1)
        history = await world.history("u04")
    items = [entry.event.item_ids[0] for entry in history.values()]
    assert len(items) == len(set(items)) > 1


async def test_shards_cover_all_users_once(world: Candidate) -> None:
    parts = [await world.generate(shard=n, shard_count=3) for n in range(3)]
    assert sum(part[-1].total_user_count for part in parts) == len(USERS) + 1
    assert accepted(await world.generate()) == 0


async def test_invariant_11_a_source_that_fails_is_left_out(
    world: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others' candidates stand, and the next run of the day asks it again."""
    with monkeypatch.context() as patched:
        patched.setattr(Popular, "candidates", Mock(side_effect=RuntimeError("out of order")))
        broken = {one.source: one for one in (await world.generate())[-1].sources}
    assert broken["popular"].failed_user_count == len(USERS) + 1
    assert broken["popular"].proposed_count == 0
    assert broken["collaborative"].accepted_count > 0
    assert broken["collaborative"].failed_user_count == 0
    mended = {one.source: one for one in (await world.generate())[-1].sources}
    assert mended["popular"].proposed_count > 0
    assert mended["collaborative"].proposed_count == 0


async def test_only_named_users_and_sources(world: Candidate) -> None:
    progress = await world.generate(user_ids=["u04", "nobody"], sources=["popular"])
    assert progress[-1].total_user_count == 1
    assert [source.source for source in progress[-1].sources] == ["popular"]
    rest = await world.generate(user_ids=["u04"])
    assert {source.source: source.proposed_count for source in rest[-1].sources}["popular"] == 0


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"sources": ["astrology"]}, grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_SOURCE"),
        ({"user_ids": ["nobody"]}, grpc.StatusCode.NOT_FOUND, "UNKNOWN_USER"),
        ({"day": "2026-02-31"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"day": "today"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"shard": 2, "shard_count": 2}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"candidates_per_source": 101}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    ],
)
async def test_wrong_generation_requests(
    world: Candidate, fields: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await world.generate(**fields)
    assert (failure.value.code(), reason_of(failure.value)) == (code, reason)


async def test_generation_needs_its_event_type(candidate: Candidate) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await candidate.generate()
    assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(failure.value) == "GENERATED_EVENT_TYPE"


def launch(request_id: str = "r1", **fields: Any) -> campaigns_pb2.LaunchCampaignRequest:
    made = {"campaign_id": "c1", "item_id": "i02", "event_type": "offer"} | fields
    return campaigns_pb2.LaunchCampaignRequest(
        request_id=request_id, campaign=campaigns_pb2.Campaign(audience=Parameters(count=5), **made)
    )


async def test_a_campaign_makes_events_once_and_can_be_cancelled(world: Candidate) -> None:
    dry = launch()
    dry.dry_run = True
    assert (await world.stub.LaunchCampaign(dry)).campaign.audience_size == 5
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await world.stub.GetCampaign(campaigns_pb2.GetCampaignRequest(campaign_id="c1"))
    assert missing.value.code() is grpc.StatusCode.NOT_FOUND
    answer = await world.stub.LaunchCampaign(launch())
    assert answer.campaign.state == campaigns_pb2.CAMPAIGN_STATE_LAUNCHED
    assert answer.campaign.event_count == answer.campaign.audience_size == 5
    events = [event for pool in (await world.pool(*USERS, "new")).values() for event in pool]
    assert [event.campaign_id for event in events] == ["c1"] * 5
    assert {event.source for event in events} == {"campaign"}
    cancelled = await world.stub.CancelCampaign(
        campaigns_pb2.CancelCampaignRequest(campaign_id="c1")
    )
    assert cancelled.cancelled_count == 5
    assert cancelled.campaign.state == campaigns_pb2.CAMPAIGN_STATE_CANCELLED
    assert await world.pool(*USERS, "new") == {}
    assert await world.stub.LaunchCampaign(launch()) == answer
    again = await world.stub.CancelCampaign(campaigns_pb2.CancelCampaignRequest(campaign_id="c1"))
    assert again.cancelled_count == 0


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (launch("r2"), grpc.StatusCode.ALREADY_EXISTS, "CAMPAIGN_EXISTS"),
        (launch("r1", payload={"a": "b"}), grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
        (
            launch("r3", campaign_id="c2", item_id="x"),
            grpc.StatusCode.NOT_FOUND,
            "UNKNOWN_ITEM",
        ),
        (
            launch("r3", campaign_id="c2", event_type="x"),
            grpc.StatusCode.NOT_FOUND,
            "UNKNOWN_EVENT_TYPE",
        ),
        (
            launch("r3", campaign_id="c2", expire_time=stamp(NOW - timedelta(days=1))),
            grpc.StatusCode.INVALID_ARGUMENT,
            "EXPIRED",
        ),
    ],
)
async def test_wrong_launches(
    world: Candidate,
    request_: campaigns_pb2.LaunchCampaignRequest,
    code: grpc.StatusCode,
    reason: str,
) -> None:
    await world.stub.LaunchCampaign(launch())
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await world.stub.LaunchCampaign(request_)
    assert (failure.value.code(), reason_of(failure.value)) == (code, reason)


async def test_an_empty_audience_is_refused(candidate: Candidate) -> None:
    await candidate.prepare(items=["i02"], kinds=[event_type("offer")])
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await candidate.stub.LaunchCampaign(launch())
    assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(failure.value) == "EMPTY_AUDIENCE"


async def test_immediate_campaigns_go_to_the_ready_queue(world: Candidate) -> None:
    await world.stub.LaunchCampaign(launch(event_type="code"))
    assert len(await world.lease()) == 5
