"""Recommendations, daily generation and campaigns."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from heliograph.candidate.v1alpha1 import recommending_pb2
from heliograph.type.v1alpha1 import attribute_pb2, event_pb2

from services.runtime.clock import at
from tests.service.candidate.calls import (
    NOW,
    USERS,
    Candidate,
    fields_of,
    reason_of,
)

Parameters = recommending_pb2.RecommendationParameters
UsersToItem = recommending_pb2.RecommendUsersToItemRequest
UsersToUser = recommending_pb2.RecommendUsersToUserRequest
ItemsToUser = recommending_pb2.RecommendItemsToUserRequest
ItemsToSegment = recommending_pb2.RecommendItemsToSegmentRequest
PAGED: dict[str, Message] = {
    "users to item": UsersToItem(item_id="i02"),
    "users to user": UsersToUser(user_id="u04"),
    "users to user, both ways": UsersToUser(user_id="u04", reciprocal=True),
    "items to user": ItemsToUser(user_id="u04"),
    "items to segment": ItemsToSegment(user_ids=["u03", "u04"]),
    "items to segment by filter": ItemsToSegment(segment_filter="user.age > 20"),
}
"""Questions that are answered in pages."""
OTHERS: list[Message] = [
    UsersToItem(item_id="i04"),
    UsersToItem(item=event_pb2.Item(item_id="i02")),
    UsersToUser(user_id="u06"),
    UsersToUser(user_id="u06", reciprocal=True),
    ItemsToUser(user_id="u06"),
    ItemsToSegment(user_ids=["u03"]),
    ItemsToSegment(segment_filter="user.age > 21"),
]


async def users_to_item(world: Candidate, item: str, **fields: Any) -> Any:
    return await world.stub.RecommendUsersToItem(UsersToItem(item_id=item, **fields))


async def ask(world: Candidate, question: Message, token: str = "", **fields: Any) -> Any:
    """A question of PAGED, with parameters."""
    request: Any = deepcopy(question)
    if fields:
        request.parameters.CopyFrom(Parameters(**fields))
    request.page_token = token
    method = type(request).__name__.removesuffix("Request")
    return await getattr(world.stub, method)(request)


def returned(answer: Any) -> list[tuple[str, float]]:
    """Who or what is returned, and with what score."""
    if "users" in answer.DESCRIPTOR.fields_by_name:
        return [(user.user_id, user.score) for user in answer.users]
    return [(item.item_id, item.score) for item in answer.items]


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


@pytest.mark.parametrize("strength", [0.0, 0.3])
@pytest.mark.parametrize("call", PAGED)
async def test_pages_fit_together(world: Candidate, call: str, strength: float) -> None:
    """Asked for one after the other as time goes by, in several sizes; they don't rotate each
    other."""
    group = {"group": attribute_pb2.AttributeValue(string_value="north")}
    await world.users([event_pb2.User(user_id="u02", attributes=group)])
    await world.items([event_pb2.Item(item_id="i02", attributes=group)])
    await ask(world, ItemsToUser(user_id="u06"))  # an unknown user has the index read on
    how = {
        "include_interacted": True,
        "filter": f'now == timestamp("{NOW.isoformat()}")',
        "diversity_attribute": "group",
        "diversity": strength,
    }
    pages: list[Any] = []
    while not pages or pages[-1].next_page_token:
        token = pages[-1].next_page_token if pages else ""
        with at(NOW + timedelta(minutes=5 * len(pages))):
            count = 3 + len(pages) % 2
            page = await ask(world, PAGED[call], token, count=count, rotation_rate=1.0, **how)
        pages.append(page)
    whole = await ask(world, PAGED[call], count=1000, **how)
    assert [one for page in pages for one in returned(page)] == returned(whole)
    assert [len(returned(page)) for page in pages[:3]] == [3, 4, 3]
    assert not whole.next_page_token
    (name,) = {page.recommendation_id for page in pages}
    assert name != whole.recommendation_id


@pytest.mark.parametrize("call", PAGED)
async def test_a_token_that_is_not_of_the_question_is_refused(world: Candidate, call: str) -> None:
    question = PAGED[call]
    await ask(world, ItemsToUser(user_id="u06"))  # an unknown user has the index read on
    token = (await ask(world, question, count=2)).next_page_token
    assert returned(await ask(world, question, token))  # without a count
    for other in [*PAGED.values(), *OTHERS]:
        if other is not question:
            await _refused(world, other, token)
    await _refused(world, question, token, min_relevance=0.01)
    for wrong in ("rubbish", token[:-2], token[4:]):
        await _refused(world, question, wrong)


async def _refused(world: Candidate, question: Message, token: str, **fields: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await ask(world, question, token, **fields)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(failure.value) == ["page_token"]


async def test_attributes_are_returned_as_far_as_there_are_any(world: Candidate) -> None:
    parameters = Parameters(returned_attributes=["age", "x"])
    answer = await users_to_item(world, "i02", parameters=parameters)
    assert answer.users[0].attributes["age"].int_value == 30
    assert list(answer.users[0].attributes) == ["age"]


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
    user = await world.stub.RecommendItemsToUser(ItemsToUser(user_id="new"))
    assert (user.basis, user.interaction_count) == (recommending_pb2.BASIS_COLD_START, 0)
    counts = [entry.interaction_count for entry in user.items]
    assert sorted(counts)[:2] == [0, 0]
    alike = await world.stub.RecommendUsersToUser(UsersToUser(user_id="new"))
    assert alike.basis == recommending_pb2.BASIS_COLD_START


async def test_items_to_user_leaves_out_what_is_known(world: Candidate) -> None:
    answer = await world.stub.RecommendItemsToUser(ItemsToUser(user_id="u00"))
    names = [item.item_id for item in answer.items]
    assert answer.basis == recommending_pb2.BASIS_INTERACTIONS
    assert "i00" not in names
    assert int(names[0][1:]) % 2 == 0


@pytest.mark.parametrize("reciprocal", [False, True])
async def test_users_to_user(world: Candidate, reciprocal: bool) -> None:
    request = UsersToUser(user_id="u04", parameters=Parameters(count=4), reciprocal=reciprocal)
    answer = await world.stub.RecommendUsersToUser(request)
    names = [user.user_id for user in answer.users]
    assert "u04" not in names
    assert len(names) == 4
    assert all(int(name[1:]) % 2 == 0 for name in names)


async def test_items_to_segment(world: Candidate) -> None:
    request = ItemsToSegment(user_ids=["u02", "u04", "nobody", "u06"])
    answer = await world.stub.RecommendItemsToSegment(request)
    assert answer.user_count == 3
    assert int(answer.items[0].item_id[1:]) % 2 == 0


async def test_unknown_subjects_are_not_found(world: Candidate) -> None:
    calls = [
        (users_to_item(world, "nothing"), "UNKNOWN_ITEM"),
        (
            world.stub.RecommendItemsToUser(ItemsToUser(user_id="x")),
            "UNKNOWN_USER",
        ),
        (
            world.stub.RecommendUsersToUser(UsersToUser(user_id="x")),
            "UNKNOWN_USER",
        ),
        (
            world.stub.RecommendItemsToSegment(ItemsToSegment(user_ids=["x"])),
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
