"""The replay's driver against small servicers: what it tells, when, and how it counts.

The servicers answer from lists; the real system is in tests/system/test_replay.py.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message as Proto
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc, catalogue_pb2, generating_pb2
from heliograph.pacer.v1alpha1 import pacer_pb2, pacer_pb2_grpc
from heliograph.policy.v1alpha1 import (
    control_pb2,
    feed_pb2,
    policy_pb2_grpc,
    recipients_pb2,
    reports_pb2,
)
from heliograph.type.v1alpha1 import notification_pb2, status_pb2
from rich.console import Console

from bench.replay import report
from services.runtime.clock import TIME_METADATA_KEY, parse_time
from services.runtime.validation import violations
from simulation.connection import ReplayError
from simulation.movielens import MovieLens
from simulation.replay import ReplayOptions, run
from simulation.report import NoProgress, print_replay, write_json
from simulation.results import ReplayResult
from simulation.world import REPLAY_CUT, make_world

START = datetime(2026, 1, 5, tzinfo=UTC)
PUSH = notification_pb2.CHANNEL_PUSH
EMAIL = notification_pb2.CHANNEL_EMAIL
OPTIONS = ReplayOptions(days=2, target=0.5, seed=1, start=START)


class Recorded:
    """Every message the driver sent, by type, and the simulated time of each call."""

    def __init__(self) -> None:
        self.messages: defaultdict[str, list[Any]] = defaultdict(list)
        self.times: list[tuple[str, datetime]] = []
        self.feed: list[feed_pb2.FeedEntry] = []
        self.invalid: list[str] = []
        self.reject_items = False

    def note(self, request: Proto, context: Any) -> None:
        name = type(request).__name__.removesuffix("Request")
        self.messages[name].append(request)
        self.invalid += [f"{name}.{each.path}" for each in violations(request)]
        for key, value in context.invocation_metadata():
            if key == TIME_METADATA_KEY:
                self.times.append((name, parse_time(value)))

    def now(self) -> datetime:
        return self.times[-1][1]

    async def drained(self, requests: AsyncIterator[Any], field: str, context: Any) -> int:
        count = 0
        async for request in requests:
            self.note(request, context)
            for each in getattr(request, field):
                self.invalid += [f"{field}.{wrong.path}" for wrong in violations(each)]
                count += 1
        return count


class Candidate(candidate_pb2_grpc.CandidateServiceServicer):
    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded

    async def PutEventType(self, request: Any, context: Any) -> Any:
        self.recorded.note(request, context)
        return catalogue_pb2.PutEventTypeResponse(event_type=request.event_type)

    async def UpsertItems(self, requests: Any, context: Any) -> Any:
        count = await self.recorded.drained(requests, "items", context)
        rejections = [status_pb2.Rejection(index=3, reason="INVALID_FIELD", message="no")]
        return catalogue_pb2.UpsertItemsResponse(
            accepted_count=count, rejections=rejections if self.recorded.reject_items else []
        )

    async def UpsertUsers(self, requests: Any, context: Any) -> Any:
        count = await self.recorded.drained(requests, "users", context)
        return catalogue_pb2.UpsertUsersResponse(accepted_count=count)

    async def RecordInteractions(self, requests: Any, context: Any) -> Any:
        count = await self.recorded.drained(requests, "interactions", context)
        return catalogue_pb2.RecordInteractionsResponse(accepted_count=count)

    async def GenerateDaily(self, request: Any, context: Any) -> Any:
        self.recorded.note(request, context)
        for done in (False, True):
            source = generating_pb2.SourceProgress(
                source="popular", proposed_count=9, accepted_count=7 if done else 3, dropped_count=2
            )
            yield generating_pb2.GenerateDailyResponse(sources=[source], done=done)


class Policy(policy_pb2_grpc.PolicyServiceServicer):
    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded

    async def UpsertRecipients(self, requests: Any, context: Any) -> Any:
        count = await self.recorded.drained(requests, "recipients", context)
        return recipients_pb2.UpsertRecipientsResponse(accepted_count=count)

    async def ReportSessions(self, request: Any, context: Any) -> Any:
        self.recorded.note(request, context)
        return reports_pb2.ReportSessionsResponse(accepted_count=len(request.sessions))

    async def GetUserContexts(self, request: Any, context: Any) -> Any:
        self.recorded.note(request, context)
        contexts = [
            recipients_pb2.UserContext(
                user_id=user_id, segment="core" if int(user_id) % 2 else "new"
            )
            for user_id in request.user_ids
        ]
        return recipients_pb2.GetUserContextsResponse(contexts=contexts)

    async def SetTarget(self, request: Any, context: Any) -> Any:
        self.recorded.note(request, context)
        return control_pb2.SetTargetResponse(target=request.target)

    async def ReadFeed(self, request: Any, context: Any) -> Any:
        self.recorded.note(request, context)
        first = int(request.cursor.split(":")[1]) if request.cursor else 0
        entries = self.recorded.feed[first : first + 3]
        last = first + len(entries)
        return feed_pb2.ReadFeedResponse(
            entries=entries, cursor=f"0:{last}", more=last < len(self.recorded.feed)
        )

    async def ReportEngagement(self, request: Any, context: Any) -> Any:
        self.recorded.note(request, context)
        return reports_pb2.ReportEngagementResponse(accepted_count=len(request.engagements))

    async def WatchVolume(self, request: Any, context: Any) -> Any:
        self.recorded.note(request, context)
        cell = control_pb2.Cell(segment="core", channel=PUSH)
        volume = control_pb2.CellVolume(cell=cell, sent_count=6, target_per_day=5, threshold=0.25)
        yield control_pb2.WatchVolumeResponse(cells=[volume])


class Pacer(pacer_pb2_grpc.PacerServiceServicer):
    """Sends, at each hour of the day from 14 to 16 UTC, the next held-back item to user 1 and 2."""

    def __init__(self, recorded: Recorded, items: dict[str, list[str]]) -> None:
        self.recorded = recorded
        self.items = items

    async def ProcessUsers(self, request: Any, context: Any) -> Any:
        self.recorded.note(request, context)
        now = self.recorded.now()
        if 14 <= now.hour <= 16:
            for user_id, channel in (("1", PUSH), ("2", EMAIL)):
                self._send(user_id, channel, now)
        answer = pacer_pb2.ProcessUsersResponse()
        answer.stages.add(stage="rank", count=2).wall_time.FromMilliseconds(1500)
        return answer

    def _send(self, user_id: str, channel: Any, now: datetime) -> None:
        stamp = Timestamp()
        stamp.FromDatetime(now)
        key = f"{now:%Y%m%d}.{user_id}.{now:%H}"
        item = self.items[user_id].pop(0)
        arm = notification_pb2.ARM_RANDOM_SEND if now.hour == 14 else notification_pb2.ARM_POLICY
        decision = feed_pb2.DecisionEntry(decision_id=key, send=True, channel=channel, arm=arm)
        send = feed_pb2.SendEntry(decision_id=key, item_ids=[item], channel=channel)
        self.recorded.feed += [
            feed_pb2.FeedEntry(event_time=stamp, user_id=user_id, decision=decision),
            feed_pb2.FeedEntry(event_time=stamp, user_id=user_id, send=send),
        ]

    async def ReadInbox(self, request: Any, context: Any) -> Any:
        self.recorded.note(request, context)
        message = pacer_pb2.InboxMessage(channel=PUSH, title="Film 3", body="A film for you.")
        return pacer_pb2.ReadInboxResponse(messages=[message])


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
async def addresses(recorded: Recorded, data: MovieLens) -> AsyncIterator[dict[str, str]]:
    """A server with the three servicers; users 1 and 2 get six items of their own truth each."""
    world = make_world(data, REPLAY_CUT, START)
    items = {
        str(user + 1): [data.items[item].item_id for item in world.truth[user].nonzero()[0]]
        for user in (0, 1)
    }
    server = grpc.aio.server()
    candidate_pb2_grpc.add_CandidateServiceServicer_to_server(Candidate(recorded), server)
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(Policy(recorded), server)
    pacer_pb2_grpc.add_PacerServiceServicer_to_server(Pacer(recorded, items), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield dict.fromkeys(("candidate", "policy", "pacer"), f"127.0.0.1:{port}")
    await server.stop(None)


@pytest.fixture
async def result(addresses: dict[str, str], data: MovieLens) -> ReplayResult:
    return await run(addresses, OPTIONS, NoProgress(), data)


async def test_everything_told_is_valid_and_complete(
    result: ReplayResult, recorded: Recorded
) -> None:
    assert recorded.invalid == []
    counts = Counter(
        {
            "items": sum(len(m.items) for m in recorded.messages["UpsertItems"]),
            "users": sum(len(m.users) for m in recorded.messages["UpsertUsers"]),
            "history": sum(len(m.interactions) for m in recorded.messages["RecordInteractions"]),
            "recipients": sum(len(m.recipients) for m in recorded.messages["UpsertRecipients"]),
        }
    )
    assert counts == {"items": 80, "users": 40, "history": 40 * 14, "recipients": 40}
    assert recorded.messages["ReportSessions"]


async def test_every_call_carries_a_time_that_never_runs_back(
    result: ReplayResult, recorded: Recorded
) -> None:
    times = [moment for _, moment in recorded.times]
    assert len(times) == sum(len(messages) for messages in recorded.messages.values())
    assert times == sorted(times)
    steps = [moment for name, moment in recorded.times if name == "ProcessUsers"]
    hours = [*range(6), *range(14, 19), *range(20, 24)]  # at which one of the made users has a slot
    assert steps == [START + timedelta(days=day, hours=hour) for day in (0, 1) for hour in hours]
    assert [m.day for m in recorded.messages["GenerateDaily"]] == ["2026-01-05", "2026-01-06"]


async def test_responses_are_those_of_the_truth(
    result: ReplayResult, recorded: Recorded, data: MovieLens
) -> None:
    """Six of user 1's and of user 2's held-back items were sent: each is opened or dismissed."""
    world = make_world(data, REPLAY_CUT, START)
    assert result.opens.sent == 12
    assert result.opens.opened == int(world.liked[:2].sum())
    assert result.opens.dismissed == 12 - result.opens.opened
    reports = [e for m in recorded.messages["ReportEngagement"] for e in m.engagements]
    assert len({each.engagement_id for each in reports}) == len(reports)
    kinds = Counter((each.user_id, each.kind) for each in reports)
    opened = [int(world.liked[user].sum()) for user in (0, 1)]
    assert kinds["1", notification_pb2.ENGAGEMENT_KIND_OPEN] == opened[0]
    assert kinds["2", notification_pb2.ENGAGEMENT_KIND_CLICK] == opened[1]
    for each in reports:
        sent = datetime.strptime(each.decision_id[:8] + each.decision_id[-2:], "%Y%m%d%H")
        delay = each.engage_time.ToDatetime() - sent
        assert timedelta(minutes=2) <= delay <= timedelta(minutes=41)


async def test_days_are_counted_apart(result: ReplayResult) -> None:
    for day in result.days:
        assert day.decided == 6
        assert day.sent == {
            "push": {"policy": 2, "random_send": 1},
            "email": {"policy": 2, "random_send": 1},
        }
        assert day.sources["popular"].accepted == 7
        assert day.volume_error == pytest.approx(0.2)
        assert day.stages["process.rank"] == pytest.approx(15 * 1.5)
    assert [day.day for day in result.days] == ["2026-01-05", "2026-01-06"]


async def test_targets_add_up_to_the_asked_volume(result: ReplayResult, recorded: Recorded) -> None:
    first = [m for m in recorded.messages["SetTarget"] if ":2026-01-05:" in m.request_id]
    assert len(first) == 6 * 3
    asked = {m.target.cell.segment for m in first if m.target.per_day > 0}
    assert asked == {"core", "new"}
    recipients = [r for m in recorded.messages["UpsertRecipients"] for r in m.recipients]
    assert sum(m.target.per_day for m in first) == pytest.approx(0.5 * len(recipients))


async def test_tables_and_json_hold_the_figures(result: ReplayResult, tmp_path: Path) -> None:
    text = StringIO()
    print_replay(result, Console(file=text, width=160))
    for words in ("2026-01-06", "random_send", "popular", "0.250", "+20%", "What this is"):
        assert words in text.getvalue()
    write_json(result, tmp_path / "out" / "replay.json")
    read = json.loads((tmp_path / "out" / "replay.json").read_text())
    assert read["days"][0]["opens"]["sent"] == 6
    assert read["options"]["start"] == "2026-01-05T00:00:00+00:00"


async def test_the_bench_gives_each_figure_its_goal(result: ReplayResult, tmp_path: Path) -> None:
    found = report(result)
    found.print(Console(file=StringIO()))
    found.write(tmp_path / "replay.json")
    read = json.loads((tmp_path / "replay.json").read_text())
    assert read["bench"] == "replay"
    assert read["machine"]["cores"] >= 1
    assert read["metrics"]["volume_error_last_day"] == {
        "value": pytest.approx(0.2),
        "unit": "share of target",
        "ci": None,
        "goal": 0.1,
        "better": "lower",
        "met": False,
    }
    assert read["metrics"]["open_rate_over_random_item"]["met"]
    assert [day["day"] for day in read["series"]["days"]] == ["2026-01-05", "2026-01-06"]


async def test_a_refused_item_stops_the_replay(
    recorded: Recorded, addresses: dict[str, str], data: MovieLens
) -> None:
    recorded.reject_items = True
    with pytest.raises(ReplayError, match="items rejected; number 3: INVALID_FIELD"):
        await run(addresses, OPTIONS, NoProgress(), data)


async def test_an_unimplemented_service_stops_the_replay(
    addresses: dict[str, str], data: MovieLens
) -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        elsewhere = {**addresses, "policy": f"127.0.0.1:{port}"}
        with pytest.raises(ReplayError, match="UNIMPLEMENTED"):
            await run(elsewhere, OPTIONS, NoProgress(), data)
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    "wrong",
    [{"days": 0}, {"candidates": 0}, {"users": 0}, {"target": -1}, {"target": float("nan")}],
)
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ReplayOptions(**wrong)


def test_the_start_is_midnight() -> None:
    with pytest.raises(ValueError, match="midnight UTC"):
        ReplayOptions(start=START + timedelta(hours=1))
