"""How recommendations are chosen: attributes of items, groups, rotation, diversity, scenarios."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from heliograph.candidate.v1alpha1 import catalogue_pb2, recommending_pb2, scenarios_pb2
from heliograph.type.v1alpha1 import attribute_pb2, event_pb2
from sqlalchemy import text as sql

from services.runtime import paging
from services.runtime.clock import at
from tests.conftest import OpenDatabase
from tests.service.candidate.calls import (
    ITEMS,
    NOW,
    USERS,
    Candidate,
    fields_of,
    interaction,
    reason_of,
    stamp,
)

Parameters = recommending_pb2.RecommendationParameters
HOUR = timedelta(hours=1)


async def users_to_item(world: Candidate, item: str = "i02", **fields: Any) -> Any:
    of_request = {n: fields.pop(n) for n in ("page_token", "count_omissions") if n in fields}
    request = recommending_pb2.RecommendUsersToItemRequest(
        item_id=item, parameters=Parameters(**fields), **of_request
    )
    return await world.stub.RecommendUsersToItem(request)


async def items_to_user(world: Candidate, user: str = "u02", **fields: Any) -> Any:
    request = recommending_pb2.RecommendItemsToUserRequest(
        user_id=user, parameters=Parameters(**fields)
    )
    return await world.stub.RecommendItemsToUser(request)


def text(value: str) -> attribute_pb2.AttributeValue:
    return attribute_pb2.AttributeValue(string_value=value)


async def put_items(world: Candidate) -> None:
    """i00–i05 are films, the others books; i01, i04, i07 and i10 are red; i03 came in yesterday."""
    items = [
        event_pb2.Item(
            item_id=name,
            item_type="film" if n < 6 else "book",
            attributes={"colour": text("red")} if n % 3 == 1 else {},
            create_time=stamp(NOW - timedelta(days=1 if n == 3 else 90)),
        )
        for n, name in enumerate(ITEMS)
    ]
    await world.items(items)


async def refused(call: Any) -> tuple[grpc.StatusCode, str, list[str]]:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return failure.value.code(), reason_of(failure.value), fields_of(failure.value)


async def test_items_are_filtered_and_boosted(world: Candidate) -> None:
    await put_items(world)
    await world.generate(user_ids=["u02"])  # loads what has changed

    async def found(text: str) -> set[str]:
        answer = await items_to_user(world, filter=text, include_interacted=True)
        return {item.item_id for item in answer.items}

    assert await found('item.item_type == "film"') == set(ITEMS[:6])
    assert await found('item.colour == "red"') == {"i01", "i04", "i07", "i10"}
    assert await found('item.create_time > now - duration("48h")') == {"i03"}
    assert await found("item.interaction_count == 0") == {"i10", "i11"}
    plain = await items_to_user(world, include_interacted=True, returned_attributes=["colour"])
    scores = {item.item_id: item.score for item in plain.items}
    assert {i.item_id for i in plain.items if "colour" in i.attributes} == {
        "i01", "i04", "i07", "i10",
    }  # fmt: skip
    factors = "has(item.colour) ? 3.0 : 0.5"
    boosted = await items_to_user(world, include_interacted=True, booster=factors)
    for item in boosted.items:
        factor = 3.0 if int(item.item_id[1:]) % 3 == 1 else 0.5
        assert item.score == pytest.approx(scores[item.item_id] * factor)
        assert item.relevance == pytest.approx(scores[item.item_id])


@pytest.mark.parametrize("name", ["filter", "booster"])
async def test_users_and_items_don_t_mix(world: Candidate, name: str) -> None:
    code, reason, fields = await refused(items_to_user(world, **{name: "user.age == 30"}))
    assert (code, reason, fields) == (
        grpc.StatusCode.INVALID_ARGUMENT, "EXPRESSION", [f"parameters.{name}"],
    )  # fmt: skip


async def test_items_have_no_budget(world: Candidate) -> None:
    use = recommending_pb2.BUDGET_USE_EXCLUDE
    code, _, fields = await refused(items_to_user(world, respect_budget=use))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert fields == ["parameters.respect_budget"]


async def test_a_segment_by_filter_is_the_segment_by_ids(world: Candidate) -> None:
    young = ["u02", "u05", "u08"]
    users = [event_pb2.User(user_id=name) for name in young]
    for user in users:
        user.attributes["age"].int_value = 20
    await world.users(users)
    ask = recommending_pb2.RecommendItemsToSegmentRequest
    by_ids = await world.stub.RecommendItemsToSegment(ask(user_ids=[*young, "nobody"]))
    by_filter = await world.stub.RecommendItemsToSegment(ask(segment_filter="user.age == 20"))
    assert by_filter.items == by_ids.items
    assert by_filter.user_count == by_ids.user_count == 3
    assert by_filter.interaction_count == by_ids.interaction_count > 0
    for wrong, code, reason in (
        (ask(), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        (
            ask(user_ids=["u02"], segment_filter="true"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        ),
        (ask(segment_filter="user.x"), grpc.StatusCode.INVALID_ARGUMENT, "EXPRESSION"),
        (ask(segment_filter="false"), grpc.StatusCode.FAILED_PRECONDITION, "EMPTY_SEGMENT"),
    ):
        assert (await refused(world.stub.RecommendItemsToSegment(wrong)))[:2] == (code, reason)


async def test_an_item_that_is_not_stored(world: Candidate) -> None:
    await users_to_item(world)  # loads the users
    item = event_pb2.Item(item_id="to come", title="Something new")
    request = recommending_pb2.RecommendUsersToItemRequest(item=item)
    answer = await world.stub.RecommendUsersToItem(request)
    assert (answer.basis, answer.interaction_count) == (recommending_pb2.BASIS_COLD_START, 0)
    assert len(answer.users) == len(USERS) + 1
    neither = recommending_pb2.RecommendUsersToItemRequest()
    assert (await refused(world.stub.RecommendUsersToItem(neither)))[2] == ["subject"]


async def test_rotation_pushes_down_what_was_just_returned_and_lets_it_recover(
    world: Candidate,
) -> None:
    time = Duration(seconds=2 * 3600)
    await users_to_item(world, "i06")
    with at(NOW + HOUR):
        first = await users_to_item(world, "i04", count=5)
    returned = [user.user_id for user in first.users]
    rotated = {"count": 50, "rotation_rate": 0.5, "rotation_time": time}
    with at(NOW + 2 * HOUR):  # half of the time has passed for i04, all of it for i06
        later = await users_to_item(world, "i04", **rotated)
        recovered = await users_to_item(world, "i06", **rotated)
    for user in later.users:
        factor = 0.75 if user.user_id in returned else 1.0
        assert user.score == pytest.approx(user.relevance * factor)
    assert all(user.score == pytest.approx(user.relevance) for user in recovered.users)


async def test_full_rotation_puts_what_was_just_returned_last(world: Candidate) -> None:
    first = await users_to_item(world, count=5)
    again = await users_to_item(world, count=50, rotation_rate=1.0)
    names = [user.user_id for user in again.users]
    assert set(names[-5:]) == {user.user_id for user in first.users}
    assert [user.score for user in again.users[-5:]] == [0.0] * 5
    other = await users_to_item(world, count=5, rotation_rate=1.0, scenario="new-content")
    assert [user.user_id for user in other.users] == [user.user_id for user in first.users]


async def test_pages_don_t_rotate_each_other(world: Candidate) -> None:
    await users_to_item(world, count=5)
    rotated = {"rotation_rate": 1.0, "diversity_attribute": "age", "diversity": 0.3}
    whole = await users_to_item(world, count=50, **rotated)
    pages, token, moment = [], "", NOW
    while not pages or token:
        with at(moment):
            page = await users_to_item(world, count=4, page_token=token, **rotated)
        token, moment = page.next_page_token, moment + HOUR / 4
        pages.append(page)
    # The first answer counts for the second question as well: half of it is asked for again.
    assert {page.recommendation_id for page in pages} == {pages[0].recommendation_id}
    names = [user.user_id for page in pages for user in page.users]
    assert sorted(names) == sorted(user.user_id for user in whole.users)
    scores = [user.score for page in pages for user in page.users]
    assert scores == sorted(scores, reverse=True)


async def test_diversity_spreads_over_an_attribute(world: Candidate) -> None:
    groups = {name: "north" if n % 4 else "south" for n, name in enumerate(USERS)}
    await world.users(
        [
            event_pb2.User(user_id=name, attributes={"group": text(group)})
            for name, group in groups.items()
        ]
    )
    answer = await users_to_item(
        world, count=50, diversity_attribute="group", diversity=0.2, include_interacted=True
    )
    seen: dict[str, int] = {}
    for user in answer.users:
        group = groups.get(user.user_id, "none")
        place = seen.setdefault(group, 0)
        assert user.score == pytest.approx(user.relevance * 0.8**place)
        seen[group] += 1
    scores = [user.score for user in answer.users]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("name", ["nothing", "likes"])
async def test_diversity_needs_an_attribute_with_values(world: Candidate, name: str) -> None:
    user = event_pb2.User(user_id="new")
    user.attributes["likes"].list_value.values.append("films")
    await world.users([user])
    await users_to_item(world, "i11")
    await world.generate(user_ids=["new"])
    code, _, fields = await refused(users_to_item(world, diversity_attribute=name))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert fields == ["parameters.diversity_attribute"]


async def test_omissions_add_up(world: Candidate) -> None:
    how = {"min_relevance": 0.01, "filter": "user.interaction_count > 2"}
    answer = await users_to_item(world, count_omissions=True, **how)
    left_out = {one.omission: one.count for one in answer.omissions}
    assert sum(left_out.values()) + len(answer.users) == len(USERS) + 1
    assert left_out[recommending_pb2.OMISSION_INELIGIBLE] == answer.interaction_count
    searched = await users_to_item(world, **how)
    assert searched.users == answer.users
    assert not searched.omissions
    first = await users_to_item(world, count_omissions=True, count=1)
    second = await users_to_item(world, count=1, page_token=first.next_page_token)
    assert second.recommendation_id == first.recommendation_id


async def test_an_estimate_counts_the_audience(world: Candidate) -> None:
    everyone = await users_to_item(world, count=50, min_relevance=0.01, count_omissions=True)
    request = recommending_pb2.EstimateAudienceRequest(
        item_id="i02", parameters=Parameters(min_relevance=0.01)
    )
    estimate = await world.stub.EstimateAudience(request)
    relevance = [user.relevance for user in everyone.users]
    assert estimate.user_count == len(relevance) == sum(estimate.relevance_histogram)
    bounds = list(estimate.relevance_bounds)
    assert (bounds[0], bounds[-1], len(bounds)) == (0.0, 1.0, len(estimate.relevance_histogram) + 1)
    for low, high, counted in zip(bounds, bounds[1:], estimate.relevance_histogram, strict=False):
        assert counted == sum(low <= one < high for one in relevance)
    assert estimate.expected_interaction_count == pytest.approx(sum(relevance))
    assert len(estimate.relevance_deciles) == 9
    assert list(estimate.relevance_deciles) == sorted(estimate.relevance_deciles)
    assert estimate.omissions == everyone.omissions
    unseen = recommending_pb2.EstimateAudienceRequest(item=event_pb2.Item(item_id="x"))
    unseen.parameters.scenario = "potential-audience"
    estimate = await world.stub.EstimateAudience(unseen)
    assert estimate.basis == recommending_pb2.BASIS_COLD_START
    assert estimate.user_count > 0


async def test_an_erased_user_leaves_recommendations(world: Candidate) -> None:
    first = await users_to_item(world, count=3)
    gone = first.users[0].user_id
    await world.stub.EraseUser(catalogue_pb2.EraseUserRequest(user_id=gone))
    await world.users([event_pb2.User(user_id=gone)])
    again = await users_to_item(world, count=50, rotation_rate=1.0)
    pushed = {user.user_id for user in again.users if user.score < user.relevance}
    assert pushed == {user.user_id for user in first.users} - {gone}


def scenario(name: str = "grown-ups", **fields: Any) -> scenarios_pb2.Scenario:
    placeholder = scenarios_pb2.Placeholder(name="age", default_value="18")
    return scenarios_pb2.Scenario(
        name=name,
        direction=scenarios_pb2.SCENARIO_DIRECTION_USERS_TO_ITEM,
        parameters=Parameters(filter="user.age >= ${age}", min_relevance=0.01, **fields),
        placeholders=[placeholder],
    )


def put(made: scenarios_pb2.Scenario, request_id: str = "p1") -> scenarios_pb2.PutScenarioRequest:
    return scenarios_pb2.PutScenarioRequest(request_id=request_id, scenario=made)


async def test_a_scenario_gives_what_a_request_does_not(world: Candidate) -> None:
    stored = await world.stub.PutScenario(put(scenario()))
    assert stored.scenario == scenario()
    assert await world.stub.PutScenario(put(scenario())) == stored
    code, reason, _ = await refused(world.stub.PutScenario(put(scenario(count=1))))
    assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")

    async def found(**fields: Any) -> list[str]:
        answer = await users_to_item(world, **fields)
        return [user.user_id for user in answer.users]

    assert await found(scenario="grown-ups") == await found(min_relevance=0.01)
    assert await found(scenario="grown-ups", min_relevance=0.0, filter="") == await found()
    values = {"age": "31"}
    assert await found(scenario="grown-ups", scenario_values=values) == []


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"scenario": "nonsense"}, grpc.StatusCode.NOT_FOUND, "UNKNOWN_SCENARIO"),
        ({"scenario": "partners"}, grpc.StatusCode.INVALID_ARGUMENT, "WRONG_DIRECTION"),
        ({"scenario": "special-offer"}, grpc.StatusCode.INVALID_ARGUMENT, "MISSING_VALUE"),
        (
            {"scenario": "win-back", "scenario_values": {"x": "y"}},
            grpc.StatusCode.INVALID_ARGUMENT,
            "UNKNOWN_PLACEHOLDER",
        ),
        (
            {"scenario": "win-back", "scenario_values": {"away": '1h" == "'}},
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        ),
        ({"scenario_values": {"x": "y"}}, grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_PLACEHOLDER"),
    ],
)
async def test_wrong_uses_of_scenarios(
    world: Candidate, fields: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    assert (await refused(users_to_item(world, **fields)))[:2] == (code, reason)


async def test_an_attribute_that_a_scenario_needs_is_told_with_its_name(world: Candidate) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await users_to_item(world, scenario="win-back")
    assert fields_of(failure.value) == ["parameters.scenario"]
    told = failure.value.details() or ""
    assert "win-back" in told
    assert "last_active_time" in told


async def test_a_scenario_is_deleted_and_a_built_in_one_comes_back(world: Candidate) -> None:
    def gone(name: str, request_id: str) -> Any:
        request = scenarios_pb2.DeleteScenarioRequest(request_id=request_id, name=name)
        return world.stub.DeleteScenario(request)

    for number, name in enumerate(("grown-ups", "premium")):
        await world.stub.PutScenario(put(scenario(name), f"p{number}"))
        deleted = await gone(name, f"d{number}")
        assert deleted.scenario == scenario(name)
        assert await gone(name, f"d{number}") == deleted
    code, reason, _ = await refused(users_to_item(world, scenario="grown-ups"))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SCENARIO")
    listed = await world.stub.ListScenarios(scenarios_pb2.ListScenariosRequest())
    assert {one.name: one.built_in for one in listed.scenarios}["premium"] is True
    for name, code, reason in (
        ("grown-ups", grpc.StatusCode.NOT_FOUND, "UNKNOWN_SCENARIO"),
        ("premium", grpc.StatusCode.FAILED_PRECONDITION, "BUILT_IN_SCENARIO"),
    ):
        assert await refused(gone(name, "new")) == (code, reason, ["name"])
    code, reason, _ = await refused(gone("premium", "d0"))
    assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_scenario_may_say_that_both_have_to_match(world: Candidate) -> None:
    made = scenarios_pb2.Scenario(
        name="pairs", direction=scenarios_pb2.SCENARIO_DIRECTION_USERS_TO_USER, reciprocal=True
    )
    await world.stub.PutScenario(put(made))

    async def found(**fields: Any) -> Any:
        request = recommending_pb2.RecommendUsersToUserRequest(user_id="u04", **fields)
        return (await world.stub.RecommendUsersToUser(request)).users

    both, one = await found(reciprocal=True), await found()
    assert [user.score for user in both] != [user.score for user in one]
    pairs = Parameters(scenario="pairs")
    assert await found(parameters=pairs) == both
    assert await found(parameters=pairs, reciprocal=False) == one
    made.direction = scenarios_pb2.SCENARIO_DIRECTION_USERS_TO_ITEM
    code, _, fields = await refused(world.stub.PutScenario(put(made, "p2")))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["scenario"])


async def test_scenarios_are_listed_in_pages(world: Candidate) -> None:
    await world.stub.PutScenario(put(scenario()))
    await world.stub.PutScenario(put(scenario("premium"), "p2"))
    whole = await world.stub.ListScenarios(scenarios_pb2.ListScenariosRequest())
    names = [one.name for one in whole.scenarios]
    assert names == sorted(names)
    assert {one.name: one.built_in for one in whole.scenarios}["premium"] is False
    assert len(names) == 14
    listed, token = [], ""
    while not listed or token:
        page = await world.stub.ListScenarios(
            scenarios_pb2.ListScenariosRequest(page_size=4, page_token=token)
        )
        listed += [one.name for one in page.scenarios]
        token = page.next_page_token
    assert listed == names


async def test_answers_given_at_once_are_all_kept_and_resolve_interactions(
    world: Candidate, open_database: OpenDatabase
) -> None:
    await users_to_item(world)
    answers = await asyncio.gather(
        *(users_to_item(world, item, count=2) for item in ITEMS for _ in range(3))
    )
    followed = answers[0]
    made = interaction(followed.users[0].user_id, ITEMS[0], moment=NOW)
    made.recommendation_id = followed.recommendation_id
    await world.interactions([made])
    async with open_database("candidate").read() as work:
        rows = await work.rows(
            sql("SELECT recommendation_id, subject, returned FROM recommendations")
        )
        (click,) = await work.rows(
            sql(
                "SELECT array_position(returned, user_id) AS place, subject FROM interactions"
                " JOIN recommendations USING (recommendation_id) WHERE subject = item_id"
            )
        )
    kept = {row.recommendation_id: row.returned for row in rows}
    for answer in answers:
        assert kept[answer.recommendation_id] == [user.user_id for user in answer.users]
    assert (click.place, click.subject) == (1, ITEMS[0])


async def test_a_token_of_another_time_is_refused(world: Candidate) -> None:
    first = await users_to_item(world, count=2, rotation_rate=0.5)
    asked, name, moment, number, *rest = (
        paging.decode(first.next_page_token, [str, str, int, int, str, str]) or ()
    )
    assert isinstance(moment, int)
    for wrong in (-(2**62), -62135596800 * 10**6, moment + 2 * 3600 * 10**6):
        token = paging.encode([asked, name, wrong, number, *rest])
        code, _, fields = await refused(
            users_to_item(world, count=2, rotation_rate=0.5, page_token=token)
        )
        assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_token"])
