"""Recommendations read back by their ids, with what they brought."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from heliograph.candidate.v1alpha1 import (
    campaigns_pb2,
    catalogue_pb2,
    readback_pb2,
    recommending_pb2,
)
from heliograph.candidate.v1alpha1 import scenarios_pb2 as scenarios
from heliograph.type.v1alpha1 import event_pb2
from sqlalchemy import text as sql

from services.candidate.readback import MOST_INTERACTIONS
from services.candidate.rotation import QUERIES
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
)
from tests.service.candidate.test_campaigns import launch

Parameters = recommending_pb2.RecommendationParameters
UsersToItem = recommending_pb2.RecommendUsersToItemRequest
QUESTIONS: dict[str, tuple[Message, tuple[str, str], scenarios.ScenarioDirection.ValueType]] = {
    "users to item": (
        UsersToItem(item_id="i02"),
        ("item_id", "i02"),
        scenarios.SCENARIO_DIRECTION_USERS_TO_ITEM,
    ),
    "users to an item that is not stored": (
        UsersToItem(item=event_pb2.Item(item_id="draft")),
        ("item_id", "draft"),
        scenarios.SCENARIO_DIRECTION_USERS_TO_ITEM,
    ),
    "users to user": (
        recommending_pb2.RecommendUsersToUserRequest(user_id="u04"),
        ("user_id", "u04"),
        scenarios.SCENARIO_DIRECTION_USERS_TO_USER,
    ),
    "items to user": (
        recommending_pb2.RecommendItemsToUserRequest(user_id="u04"),
        ("user_id", "u04"),
        scenarios.SCENARIO_DIRECTION_ITEMS_TO_USER,
    ),
    "items to group": (
        recommending_pb2.RecommendItemsToSegmentRequest(user_ids=["u03", "u04"]),
        ("group", ""),
        scenarios.SCENARIO_DIRECTION_ITEMS_TO_SEGMENT,
    ),
}
"""Questions, with subject and direction of their answers."""


async def ask(world: Candidate, question: Message, **fields: Any) -> Any:
    """The answer to one of the questions, with parameters."""
    request: Any = type(question).FromString(question.SerializeToString())
    request.page_token = fields.pop("page_token", "")
    request.parameters.CopyFrom(Parameters(**fields))
    return await getattr(world.stub, type(request).__name__.removesuffix("Request"))(request)


def ids_of(*answers: Any) -> list[str]:
    """Who or what is returned, page by page."""
    return [
        getattr(one, "user_id", "") or one.item_id
        for answer in answers
        for one in getattr(answer, "users", None) or answer.items
    ]


async def read(world: Candidate, recommendation_id: str, **fields: Any) -> Any:
    request = readback_pb2.GetRecommendationRequest(recommendation_id=recommendation_id, **fields)
    return await world.stub.GetRecommendation(request)


async def refused(world: Candidate, name: str, **fields: Any) -> tuple[Any, str, list[str]]:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await read(world, name, **fields)
    return failure.value.code(), reason_of(failure.value), fields_of(failure.value)


def following(answer: Any, user: str, item: str, minutes: int) -> event_pb2.Interaction:
    """An interaction that names an answer."""
    made = interaction(user, item, weight=0.5, moment=NOW + timedelta(minutes=minutes))
    made.recommendation_id = answer.recommendation_id
    made.kind = "purchase"
    return made


@pytest.mark.parametrize("name", QUESTIONS)
async def test_an_answer_is_read_back_over_all_its_pages(world: Candidate, name: str) -> None:
    question, (field, subject), direction = QUESTIONS[name]
    stored = scenarios.Scenario(name="ours", direction=direction)
    await world.stub.PutScenario(scenarios.PutScenarioRequest(request_id="ours", scenario=stored))
    scenario = {"scenario": "ours"} if name == "users to item" else {}
    first = await ask(world, question, count=3, include_interacted=True, **scenario)
    with at(NOW + timedelta(minutes=1)):
        token = first.next_page_token
        how = {"include_interacted": True, "page_token": token} | scenario
        second = await ask(world, question, count=2, **how)
    assert second.recommendation_id == first.recommendation_id
    kept = await read(world, first.recommendation_id)
    told = kept.recommendation
    assert told.recommendation_id == first.recommendation_id
    assert told.direction == direction
    assert told.WhichOneof("subject") == field
    assert getattr(told, field)
    assert subject in ("", getattr(told, field))
    assert told.scenario == scenario.get("scenario", "")
    assert told.answer_time.ToDatetime(NOW.tzinfo) == NOW
    assert (told.page_count, told.returned_count) == (2, 5)
    assert list(kept.returned_ids) == ids_of(first, second)
    assert not kept.next_page_token
    assert (kept.interaction_count, kept.ranked_interaction_count) == (0, 0)


async def test_a_campaign_s_audience_is_read_back(world: Candidate) -> None:
    request = launch("r", campaign_id="c")
    request.campaign.audience.count = 4
    request.campaign.recommendation_id = "given by the caller"
    request.dry_run = True
    dry = (await world.stub.LaunchCampaign(request)).campaign
    assert not dry.recommendation_id
    request.dry_run = False
    campaign = (await world.stub.LaunchCampaign(request)).campaign
    assert (await world.stub.LaunchCampaign(request)).campaign == campaign
    got = await world.stub.GetCampaign(campaigns_pb2.GetCampaignRequest(campaign_id="c"))
    assert got.campaign.recommendation_id == campaign.recommendation_id
    kept = await read(world, campaign.recommendation_id)
    assert (kept.recommendation.item_id, kept.recommendation.page_count) == ("i02", 1)
    pools = await world.pool(*USERS, "new")
    told = {user for user, pool in pools.items() if any(one.campaign_id == "c" for one in pool)}
    assert (len(kept.returned_ids), set(kept.returned_ids)) == (4, told)
    made = following(campaign, kept.returned_ids[2], "i02", minutes=0)
    await world.interactions([made])
    kept = await read(world, campaign.recommendation_id)
    assert [(one.interaction, one.rank) for one in kept.interactions] == [(made, 3)]


async def test_a_campaign_turns_the_audience_of_the_next_one(world: Candidate) -> None:
    """Rotation pushes down those whom the last campaign about the item was for."""
    audiences = []
    for place, name in enumerate("ab"):
        request = launch(name, campaign_id=name)
        request.campaign.audience.count = 3
        request.campaign.audience.rotation_rate = 1.0
        with at(NOW + timedelta(minutes=place)):
            campaign = (await world.stub.LaunchCampaign(request)).campaign
        audiences.append(set((await read(world, campaign.recommendation_id)).returned_ids))
    assert len(audiences[0] | audiences[1]) == 6


async def test_what_an_answer_brought_is_read_back(world: Candidate) -> None:
    question = UsersToItem(item_id="i02")
    answer = await ask(world, question, count=4)
    other = await ask(world, question, count=1)
    users = ids_of(answer)
    outsider = next(user for user in USERS if user not in users)
    made = [
        following(answer, users[2], "i02", 1),
        following(answer, users[0], "i02", 2),
        following(answer, users[0], "i03", 3),  # another item
        following(answer, outsider, "i02", 4),  # another user
        following(other, users[0], "i02", 0),  # of another answer
        interaction(users[1], "i02", moment=NOW),  # of none
    ]
    assert (await world.interactions(made)).accepted_count == len(made)
    kept = await read(world, answer.recommendation_id)
    assert (kept.interaction_count, kept.ranked_interaction_count) == (4, 2)
    assert [one.interaction for one in kept.interactions] == made[3::-1]
    assert [one.rank for one in kept.interactions] == [0, 0, 1, 3]


async def test_what_the_other_answers_brought(world: Candidate) -> None:
    """Each direction has its own notion of what was recommended."""
    for name in ("users to user", "items to user", "items to group"):
        question, _, _ = QUESTIONS[name]
        answer = await ask(world, question, count=3)
        best = ids_of(answer)[0]
        if name == "users to user":
            made = [following(answer, "new", "i01", 1), following(answer, best, "i01", 2)]
        else:
            user = "u04" if name == "items to user" else "u03"
            missing = next(item for item in ITEMS if item not in ids_of(answer))
            made = [following(answer, user, missing, 1), following(answer, user, best, 2)]
        if name == "items to user":
            made.insert(0, following(answer, "u06", best, 0))
        await world.interactions(made)
        kept = await read(world, answer.recommendation_id)
        assert kept.interaction_count == len(made), name
        assert [one.rank for one in kept.interactions] == [1] + [0] * (len(made) - 1), name
        assert kept.ranked_interaction_count == 1, name


async def test_ids_come_in_pages_and_interactions_are_bounded(world: Candidate) -> None:
    question = UsersToItem(item_id="i02")
    pages = [await ask(world, question, count=3, include_interacted=True)]
    for _ in range(3):
        token = pages[-1].next_page_token
        page = await ask(world, question, count=4, include_interacted=True, page_token=token)
        pages.append(page)
    name = pages[0].recommendation_id
    count = MOST_INTERACTIONS + 5
    made = [following(pages[0], "u04", "i02", -minute) for minute in range(count)]
    await world.interactions(made)
    read_ids: list[str] = []
    token, calls = "", 0
    while token or not calls:
        kept = await read(world, name, page_size=2, page_token=token)
        assert len(kept.interactions) == (0 if calls else MOST_INTERACTIONS)
        assert kept.interaction_count == (0 if calls else count)
        assert kept.recommendation.returned_count == 15
        read_ids += kept.returned_ids
        token, calls = kept.next_page_token, calls + 1
    assert read_ids == ids_of(*pages)
    assert calls == 8


async def test_unknown_and_malformed_ids_are_refused(world: Candidate) -> None:
    unknown = (grpc.StatusCode.NOT_FOUND, "UNKNOWN_RECOMMENDATION", [])
    assert await refused(world, "0123456789abcdef01234567") == unknown
    for wrong in ("", "a\0b", "x" * 65):
        code, _, fields = await refused(world, wrong)
        assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["recommendation_id"])
    one, other = [await ask(world, UsersToItem(item_id="i02"), count=3) for _ in range(2)]
    token = (await read(world, one.recommendation_id, page_size=1)).next_page_token
    for wrong in (token, "rubbish", one.next_page_token):
        code, _, fields = await refused(world, other.recommendation_id, page_token=wrong)
        assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_token"])
    code, _, fields = await refused(world, one.recommendation_id, page_size=10_001)
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_size"])


async def test_an_answer_beyond_its_retention_is_not_found(world: Candidate) -> None:
    """Also one of which a later page is not that old."""
    question = UsersToItem(item_id="i02")
    first = await ask(world, question, count=3)
    with at(NOW + timedelta(days=2)):
        await ask(world, question, count=3, page_token=first.next_page_token)
    with at(NOW + timedelta(days=29)):
        assert (await read(world, first.recommendation_id)).recommendation.page_count == 2
    with at(NOW + timedelta(days=31)):
        unknown = (grpc.StatusCode.NOT_FOUND, "UNKNOWN_RECOMMENDATION", [])
        assert await refused(world, first.recommendation_id) == unknown


async def test_nothing_of_an_erased_user_is_read_back(
    world: Candidate, open_database: OpenDatabase
) -> None:
    answer = await ask(world, UsersToItem(item_id="i02"), count=3)
    gone, *stay = ids_of(answer)
    about = await ask(world, recommending_pb2.RecommendItemsToUserRequest(user_id=gone))
    made = [following(answer, user, "i02", minute) for minute, user in enumerate([gone, *stay])]
    await world.interactions(made)
    await world.stub.EraseUser(catalogue_pb2.EraseUserRequest(user_id=gone))
    kept = await read(world, answer.recommendation_id)
    assert list(kept.returned_ids) == stay
    assert [one.interaction.user_id for one in kept.interactions] == stay[::-1]
    assert gone not in str(kept)
    unknown = (grpc.StatusCode.NOT_FOUND, "UNKNOWN_RECOMMENDATION", [])
    assert await refused(world, about.recommendation_id) == unknown
    late = """INSERT INTO recommendations VALUES
        ('late-1', 0, 1, 'i02', '', :now, :ids), ('late-3', 0, 3, :gone, '', :now, '{i02}')"""
    async with open_database("candidate").unit_of_work() as work:
        await work.execute(sql(late), {"now": NOW, "ids": [gone, *stay], "gone": gone})
        await work.commit()
    # Answers that were on their way while the user was removed.
    assert list((await read(world, "late-1")).returned_ids) == stay
    assert await refused(world, "late-3") == unknown


async def test_interactions_are_found_by_an_index(open_database: OpenDatabase) -> None:
    params = {"recommendation_id": "x", "direction": 1, "subject": "i02", "count": 1}
    async with open_database("candidate").read() as work:
        await work.execute(sql("SET LOCAL enable_seqscan = off"))
        await work.execute(sql("SET LOCAL plan_cache_mode = force_generic_plan"))
        rows = await work.rows(sql(f"EXPLAIN {QUERIES.interactions_naming.text}"), params)
    plan = "\n".join(row[0] for row in rows)
    assert "interactions_naming" in plan
    assert "recommendation_given_once" in plan
