"""Invariant 12 for long work of the candidate service: it is killed in the midst, starts again, is
asked once more, and then there is what there would have been."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from heliograph.candidate.v1alpha1 import campaigns_pb2, generating_pb2, recommending_pb2

from tests.conftest import StartSystem
from tests.faults.processes import count, needs_proc, process_of
from tests.service.candidate.calls import Candidate, event_type, interaction

USERS = [f"user-{number:04}" for number in range(2500)]
ITEMS = [f"item-{number:02}" for number in range(40)]
AUDIENCE = 2400
SPREAD_CAP = 2300
QUOTA = 2200
BATCH = 1000
TODAY = datetime.now(UTC).date()
PAUSE_S = 0.002
OF_GENERATION = [
    f"candidate.{table}"
    for table in ("events", "generated", "generation_runs", "generation_yields")
]
EVENTS = "SELECT count(*) FROM candidate.events"

pytestmark = [needs_proc, pytest.mark.timeout(240)]


@pytest.fixture
def start_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StartSystem:
    """`start_system` with services in processes of their own, which can be killed; each start in a
    test is on the same database."""
    monkeypatch.setenv("HELIOGRAPH_TEST_MODE", "processes")
    start: StartSystem = request.getfixturevalue("start_system")
    return start


async def populate(candidate: Candidate) -> None:
    """Users who like a few of the items each, a team with a quota, and two types of events."""
    await candidate.prepare(items=ITEMS, kinds=[event_type("offer"), event_type("item.suggestion")])
    for start in range(0, len(USERS), BATCH):
        users = USERS[start : start + BATCH]
        await candidate.prepare(users=users)
        for step in range(3):
            await candidate.interactions(
                [
                    interaction(user, ITEMS[(7 * place + 3 * step) % len(ITEMS)])
                    for place, user in enumerate(users)
                ]
            )
    quota = campaigns_pb2.TeamQuota(team="growth", events_per_day=QUOTA)
    request = campaigns_pb2.PutTeamQuotaRequest(request_id="quota", quota=quota)
    await candidate.stub.PutTeamQuota(request)


async def kill_amid(
    work: Callable[[], Awaitable[Any]], database: psycopg.Connection[Any], state_dir: Path
) -> None:
    """Kill -9 the service as soon as the work has made some events."""
    pid = process_of("candidate", state_dir)
    running = asyncio.ensure_future(work())
    before = count(database, EVENTS)
    while count(database, EVENTS) == before:
        assert not running.done(), running
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(running), PAUSE_S)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(grpc.aio.AioRpcError):
        await running


def launch() -> campaigns_pb2.LaunchCampaignRequest:
    return campaigns_pb2.LaunchCampaignRequest(
        request_id="launch",
        campaign=campaigns_pb2.Campaign(
            campaign_id="spring",
            item_id=ITEMS[0],
            event_type="offer",
            team="growth",
            audience=recommending_pb2.RecommendationParameters(
                count=AUDIENCE, include_interacted=True
            ),
            spread_cap=campaigns_pb2.SpreadCap(
                user_count=SPREAD_CAP, window=Duration(seconds=86_400)
            ),
        ),
    )


async def test_a_campaign_ends_within_its_limits(
    start_processes: StartSystem, database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(database_url, autocommit=True) as database:
        async with start_processes("candidate") as system:
            candidate = Candidate(system.channel("candidate"))
            await populate(candidate)
            await kill_amid(lambda: candidate.stub.LaunchCampaign(launch()), database, tmp_path)
        assert 0 < count(database, EVENTS) < QUOTA, "it was done before the kill"
        async with start_processes("candidate") as system:
            candidate = Candidate(system.channel("candidate"))
            campaign = (await candidate.stub.LaunchCampaign(launch())).campaign
            again = (await candidate.stub.LaunchCampaign(launch())).campaign
            quotas = await candidate.stub.ListTeamQuotas(campaigns_pb2.ListTeamQuotasRequest())
        assert campaign == again
        assert campaign.state == campaigns_pb2.CAMPAIGN_STATE_LAUNCHED
        told = "SELECT count(DISTINCT user_id) FROM candidate.events"
        assert campaign.event_count == count(database, EVENTS) == count(database, told) == QUOTA
        assert quotas.quotas[0].used_today == QUOTA


async def generate(candidate: Candidate) -> generating_pb2.GenerateDailyResponse:
    *_, last = await candidate.generate(day=str(TODAY), candidates_per_source=2)
    return last


def events(database: psycopg.Connection[Any]) -> set[tuple[str, str]]:
    """User and id of all events."""
    return set(database.execute("SELECT user_id, event_id FROM candidate.events").fetchall())


async def test_a_generation_makes_what_it_would_have_made(
    start_processes: StartSystem, database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(database_url, autocommit=True) as database:
        async with start_processes("candidate") as system:
            candidate = Candidate(system.channel("candidate"))
            await populate(candidate)
            await kill_amid(lambda: generate(candidate), database, tmp_path)
        before = events(database)
        async with start_processes("candidate") as system:
            candidate = Candidate(system.channel("candidate"))
            rest = await generate(candidate)
            made = events(database)
            nothing = await generate(candidate)
            assert events(database) == made
            database.execute(f"TRUNCATE {', '.join(OF_GENERATION)}")
            await generate(candidate)
            undisturbed = events(database)
        assert rest.done
        assert set() < before < made, "it was done before the kill"
        assert sum(source.accepted_count for source in rest.sources) == len(made) - len(before)
        assert sum(source.accepted_count for source in nothing.sources) == 0
        assert made == undisturbed
