"""Campaigns."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from heliograph.candidate.v1alpha1 import campaigns_pb2, recommending_pb2

from services.candidate import campaigns, limits
from services.runtime.clock import at
from services.runtime.errors import FailedPrecondition
from tests.service.candidate.calls import (
    NOW,
    USERS,
    Candidate,
    event_type,
    metadata_of,
    reason_of,
    stamp,
)

Parameters = recommending_pb2.RecommendationParameters


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


@pytest.mark.parametrize("capped", [False, True])
async def test_concurrent_launches_by_one_request_id_get_one_answer(
    world: Candidate, capped: bool
) -> None:
    """Also where the first has used up what the campaign may make."""
    await world.generate(user_ids=["u02"], sources=["popular"])
    request = launch(spread_cap=cap(5)) if capped else launch()
    answers = await asyncio.gather(*(world.stub.LaunchCampaign(request) for _ in range(10)))
    assert answers == [answers[0]] * 10
    assert answers[0].campaign.event_count == 5
    pools = await world.pool(*USERS, "new")
    assert sum(bool(event.campaign_id) for pool in pools.values() for event in pool) == 5


async def test_an_empty_audience_is_refused(candidate: Candidate) -> None:
    await candidate.prepare(items=["i02"], kinds=[event_type("offer")])
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await candidate.stub.LaunchCampaign(launch())
    assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(failure.value) == "EMPTY_AUDIENCE"
    assert failure.value.details() == "the audience is empty: there are no users"


async def test_an_empty_audience_is_explained_by_who_is_left_out(world: Candidate) -> None:
    request = launch()
    request.campaign.audience.filter = "user.age > 40"
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await world.stub.LaunchCampaign(request)
    omitted = metadata_of(failure.value)
    assert failure.value.details() == (
        "the audience is empty: all users are left out: "
        f"{omitted['INELIGIBLE']} INELIGIBLE, {omitted['FILTER']} FILTER"
    )
    assert sum(map(int, omitted.values())) == len(USERS) + 1


async def test_immediate_campaigns_go_to_the_ready_queue(world: Candidate) -> None:
    await world.stub.LaunchCampaign(launch(event_type="code"))
    assert len(await world.lease()) == 5


async def launched(world: Candidate, request_id: str, **fields: Any) -> campaigns_pb2.Campaign:
    answer = await world.stub.LaunchCampaign(launch(request_id, campaign_id=request_id, **fields))
    return answer.campaign


def omissions(campaign: campaigns_pb2.Campaign) -> dict[int, int]:
    return {one.omission: one.count for one in campaign.omissions}


def cap(users: int, hours: int = 24) -> campaigns_pb2.SpreadCap:
    return campaigns_pb2.SpreadCap(user_count=users, window=Duration(seconds=hours * 3600))


async def told_of(world: Candidate, item: str) -> set[str]:
    pools = await world.pool(*USERS, "new")
    return {user for user, pool in pools.items() for event in pool if item in event.item_ids}


async def test_a_spread_cap_bounds_the_users_told_of_an_item(world: Candidate) -> None:
    first = await launched(world, "first", spread_cap=cap(7))
    assert (first.event_count, len(await told_of(world, "i02"))) == (5, 5)
    # The same five come first again and may get a second event; two more are within the cap.
    wide = Parameters(count=10)
    dry = launch("dry", campaign_id="dry", spread_cap=cap(7))
    dry.campaign.audience.CopyFrom(wide)
    dry.dry_run = True
    forecast = (await world.stub.LaunchCampaign(dry)).campaign
    request = launch("second", campaign_id="second", spread_cap=cap(7))
    request.campaign.audience.CopyFrom(wide)
    second = (await world.stub.LaunchCampaign(request)).campaign
    assert (second.audience_size, second.event_count) == (10, 7)
    assert omissions(second)[recommending_pb2.OMISSION_SPREAD_CAP] == 3
    assert len(await told_of(world, "i02")) == 7
    assert second.expected_interaction_count == pytest.approx(forecast.expected_interaction_count)
    assert omissions(second) == omissions(forecast)
    await world.stub.CancelCampaign(campaigns_pb2.CancelCampaignRequest(campaign_id="second"))
    third = await launched(world, "third", spread_cap=cap(6))
    assert third.event_count == 5


async def test_a_spread_cap_that_is_reached_refuses_the_launch(world: Candidate) -> None:
    active = launch("first", campaign_id="first")
    active.campaign.audience.filter = "user.interaction_count > 0"
    await world.stub.LaunchCampaign(active)
    others = Parameters(count=5, filter="user.interaction_count == 0")
    request = launch("second", campaign_id="second", spread_cap=cap(5))
    request.campaign.audience.CopyFrom(others)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await world.stub.LaunchCampaign(request)
    assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(failure.value) == "SPREAD_CAP"
    with at(NOW + timedelta(hours=25)):  # out of the window
        later = await world.stub.LaunchCampaign(request)
    assert later.campaign.event_count == 1


async def put_quota(world: Candidate, request_id: str, **fields: Any) -> None:
    quota = campaigns_pb2.TeamQuota(team="growth", **fields)
    request = campaigns_pb2.PutTeamQuotaRequest(request_id=request_id, quota=quota)
    answer = await world.stub.PutTeamQuota(request)
    assert answer.quota == quota


async def quota(world: Candidate) -> campaigns_pb2.TeamQuota:
    answer = await world.stub.ListTeamQuotas(campaigns_pb2.ListTeamQuotasRequest())
    assert len(answer.quotas) == 1
    return answer.quotas[0]


async def test_a_team_makes_no_more_events_than_its_quota(world: Candidate) -> None:
    await put_quota(world, "q1", events_per_day=8)
    await world.prepare(kinds=[event_type("invite", owner="growth")])
    first = await launched(world, "first", team="growth")
    second = await launched(world, "second", item_id="i03", event_type="invite")
    assert (first.event_count, second.event_count) == (5, 3)
    assert omissions(second)[recommending_pb2.OMISSION_TEAM_QUOTA] == 2
    assert (await quota(world)).used_today == 8
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await launched(world, "third", item_id="i04", team="growth")
    assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(failure.value) == "TEAM_QUOTA"
    assert (await launched(world, "other", item_id="i05", team="product")).event_count == 5
    with at(NOW + timedelta(days=1)):
        assert (await launched(world, "third", item_id="i04", team="growth")).event_count == 5
        assert (await quota(world)).used_today == 5
    await put_quota(world, "q2")
    assert not (await quota(world)).HasField("events_per_day")
    assert (await launched(world, "fourth", item_id="i06", team="growth")).event_count == 5


async def test_concurrent_campaigns_keep_the_limits(world: Candidate) -> None:
    """Invariant 5's approximate item cap, and the quota, under real concurrency."""
    await put_quota(world, "q1", events_per_day=13)
    requests = []
    for number in range(6):
        request = launch(f"r{number}", campaign_id=f"c{number}", spread_cap=cap(9), team="growth")
        text = f"user.interaction_count % 3 == {number % 3}"
        request.campaign.audience.CopyFrom(
            Parameters(count=20, include_interacted=True, filter=text)
        )
        requests.append(request)
    await world.generate(user_ids=["u02"], sources=["popular"])
    answers = await asyncio.gather(
        *(world.stub.LaunchCampaign(one) for one in requests), return_exceptions=True
    )
    made = [one.campaign for one in answers if not isinstance(one, BaseException)]
    refused = [one for one in answers if isinstance(one, BaseException)]
    assert all(isinstance(one, grpc.aio.AioRpcError) for one in refused)
    histories = [await world.history(user) for user in [*USERS, "new"]]
    told = [
        sum(bool(entry.event.campaign_id) for entry in history.values()) for history in histories
    ]
    assert sum(told) == sum(one.event_count for one in made) == (await quota(world)).used_today
    assert 0 < sum(told) <= 13
    assert sum(count > 0 for count in told) <= 9
    assert made


async def test_a_launch_that_was_cut_off_goes_on_within_its_limits(
    world: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that fails leaves neither events nor use of the quota; the rest is made later."""
    await put_quota(world, "q1", events_per_day=100)
    monkeypatch.setattr(campaigns, "BATCH", 2)
    real, calls = limits.use, 0

    async def use(*given: Any) -> None:
        nonlocal calls
        calls += 1
        await real(*given)
        if calls == 2:
            raise FailedPrecondition("cut off")

    with monkeypatch.context() as patched:
        patched.setattr(limits, "use", use)
        with pytest.raises(grpc.aio.AioRpcError):
            await launched(world, "first", team="growth")
    half = await world.stub.GetCampaign(campaigns_pb2.GetCampaignRequest(campaign_id="first"))
    assert half.campaign.state == campaigns_pb2.CAMPAIGN_STATE_RUNNING
    assert half.campaign.event_count == (await quota(world)).used_today == 2
    whole = await launched(world, "first", team="growth")
    assert whole.state == campaigns_pb2.CAMPAIGN_STATE_LAUNCHED
    assert whole.event_count == (await quota(world)).used_today == 5


async def test_a_campaign_by_a_scenario(world: Candidate) -> None:
    request = launch("r1")
    request.campaign.audience.scenario = "hidden-gems"
    answer = await world.stub.LaunchCampaign(request)
    assert answer.campaign.event_count == 5
    assert answer.campaign.budget.state == recommending_pb2.BUDGET_STATE_UNKNOWN
