"""Recommendations, daily generation and campaigns."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from heliograph.candidate.v1alpha1 import recommending_pb2
from heliograph.type.v1alpha1 import attribute_pb2, event_pb2

from tests.service.candidate.calls import (
    USERS,
    Candidate,
    fields_of,
    reason_of,
)

Parameters = recommending_pb2.RecommendationParameters


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
    lowest = everyone.users[-1].score
    least = min(user.score for user in everyone.users if user.score > lowest)
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


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1])
async def test_min_relevance_out_of_range(world: Candidate, value: float) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await users_to_item(world, "i02", parameters=Parameters(min_relevance=value))
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(failure.value) == ["parameters.min_relevance"]
