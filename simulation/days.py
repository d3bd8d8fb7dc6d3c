"""Plays days against the running services: generation, the hours with slots, responses."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import perf_counter
from typing import Protocol

from heliograph.candidate.v1alpha1 import generating_pb2
from heliograph.pacer.v1alpha1 import pacer_pb2
from heliograph.policy.v1alpha1 import control_pb2, feed_pb2, reports_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.runtime.clock import at
from simulation.connection import LONG_CALL_S, Services, batches, require_accepted
from simulation.populate import EMAIL, PUSH, timestamp
from simulation.recipients import Reach, slot_moments
from simulation.responses import Reaction, Responder, Response
from simulation.results import CellVolume, SendRecord, SourceCount
from simulation.targets import set_targets, split, user_segments
from simulation.world import World

REPORT_AFTER = timedelta(minutes=50)
"""Responses are reported this long after each step: later than the slowest, before the next."""
FEED_LIMIT = 10_000

Kind = notification_pb2.EngagementKind


class Progress(Protocol):
    """Told how far the work is."""

    def begin(self, name: str, total: int) -> None:
        """A piece of work of `total` steps begins."""

    def advance(self) -> None:
        """One step is done."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What the feed said of one decision."""

    day: int
    arm: str


@dataclass(slots=True)
class Play:
    """The state of a replay: the world, and what was seen of the system so far."""

    services: Services
    world: World
    reaches: Sequence[Reach]
    responder: Responder
    target: float
    candidates: int
    cursor: str = ""
    decisions: dict[str, Decided] = field(default_factory=dict)
    sends: list[SendRecord] = field(default_factory=list)
    turned_off: set[tuple[int, notification_pb2.Channel.ValueType]] = field(default_factory=set)
    stages: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _rows: dict[str, int] = field(default_factory=dict)
    _items: dict[str, int] = field(default_factory=dict)
    _received: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._rows = {user.user_id: row for row, user in enumerate(self.world.data.users)}
        self._items = {item.item_id: row for row, item in enumerate(self.world.data.items)}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the wall time spent inside to a stage."""
        begin = perf_counter()
        try:
            yield
        finally:
            self.stages[stage] += perf_counter() - begin

    async def play_day(self, day: int, progress: Progress) -> DayFacts:
        """Play one day, from 0; what was decided and sent is in `decisions` and `sends`."""
        begin = perf_counter()
        self.stages.clear()
        start = self.world.start + timedelta(days=day)
        moments = slot_moments(self.reaches, start)
        progress.begin(f"Day {start:%Y-%m-%d}", len(moments) + 1)
        with at(start):
            await self._set_targets(start)
            sources = await self._generate(start)
        progress.advance()
        for moment in moments:
            await self._step(moment)
            progress.advance()
        with at(start + timedelta(days=1, seconds=-1)), self.timed("volume"):
            volume = await self._volume()
        return DayFacts(sources, volume, dict(self.stages), perf_counter() - begin)

    async def _set_targets(self, start: datetime) -> None:
        with self.timed("targets"):
            user_ids = [user.user_id for user in self.world.data.users]
            segments = await user_segments(self.services, user_ids)
            targets = split(self.reaches, self.turned_off, segments, self.target)
            await set_targets(self.services, f"{start:%Y-%m-%d}", targets)

    async def _generate(self, start: datetime) -> dict[str, SourceCount]:
        request = generating_pb2.GenerateDailyRequest(
            day=f"{start:%Y-%m-%d}", candidates_per_source=self.candidates
        )
        sources: dict[str, SourceCount] = {}
        with self.timed("generate"):
            stream = self.services.candidate.GenerateDaily(request, timeout=LONG_CALL_S)
            async for answer in stream:
                sources = {
                    each.source: SourceCount(
                        each.proposed_count, each.accepted_count, each.dropped_count
                    )
                    for each in answer.sources
                }
        return sources

    async def _step(self, moment: datetime) -> None:
        with at(moment):
            with self.timed("process"):
                answer = await self.services.pacer.ProcessUsers(
                    pacer_pb2.ProcessUsersRequest(), timeout=LONG_CALL_S
                )
            for report in answer.stages:
                self.stages[f"process.{report.stage}"] += (
                    report.wall_time.ToTimedelta().total_seconds()
                )
            with self.timed("feed"):
                entries = [entry async for entry in self._feed()]
        engagements = self._respond(entries)
        if engagements:
            with at(moment + REPORT_AFTER), self.timed("engagements"):
                await self._report(engagements)

    async def _feed(self) -> AsyncIterator[feed_pb2.FeedEntry]:
        more = True
        while more:
            answer = await self.services.policy.ReadFeed(
                feed_pb2.ReadFeedRequest(cursor=self.cursor, limit=FEED_LIMIT),
                timeout=LONG_CALL_S,
            )
            self.cursor, more = answer.cursor, answer.more
            for entry in answer.entries:
                yield entry

    def _respond(self, entries: Sequence[feed_pb2.FeedEntry]) -> list[reports_pb2.Engagement]:
        """Note the decisions and sends among feed entries; the users' responses to the sends."""
        engagements: list[reports_pb2.Engagement] = []
        for entry in entries:
            day = (entry.event_time.ToDatetime(self.world.start.tzinfo) - self.world.start).days
            if entry.HasField("decision"):
                arm = notification_pb2.Arm.Name(entry.decision.arm).removeprefix("ARM_").lower()
                self.decisions[entry.decision.decision_id] = Decided(day, arm)
            elif entry.HasField("send"):
                engagements += self._respond_to(entry, day)
        return engagements

    def _respond_to(self, entry: feed_pb2.FeedEntry, day: int) -> list[reports_pb2.Engagement]:
        send, user = entry.send, self._rows[entry.user_id]
        item = self._items[send.item_ids[0]]
        response = self.responder.respond(user, item, send.decision_id)
        decided = self.decisions.get(send.decision_id)
        self.sends.append(
            SendRecord(
                day=day,
                user=user,
                item=item,
                channel=channel_name(send.channel),
                arm=decided.arm if decided else "unknown",
                earlier=self._received[user],
                opened=response.reaction is Reaction.OPEN,
                dismissed=response.reaction is Reaction.DISMISS,
                disabled=response.disables,
            )
        )
        self._received[user] += 1
        if response.disables:
            self.turned_off.add((user, send.channel))
        moment = entry.event_time.ToDatetime(self.world.start.tzinfo) + response.delay
        return _engagements(entry, moment, response)

    async def _report(self, engagements: Sequence[reports_pb2.Engagement]) -> None:
        for batch in batches(engagements, 5000):
            answer = await self.services.policy.ReportEngagement(
                reports_pb2.ReportEngagementRequest(engagements=batch), timeout=LONG_CALL_S
            )
            require_accepted("engagements", answer)

    async def _volume(self) -> list[CellVolume]:
        request = control_pb2.WatchVolumeRequest(once=True)
        async for answer in self.services.policy.WatchVolume(request, timeout=LONG_CALL_S):
            return [
                CellVolume(
                    segment=cell.cell.segment,
                    channel=channel_name(cell.cell.channel),
                    sent=cell.sent_count + cell.in_flight_count,
                    target=cell.target_per_day if cell.HasField("target_per_day") else None,
                    threshold=cell.threshold,
                )
                for cell in answer.cells
            ]
        return []


@dataclass(frozen=True, slots=True)
class DayFacts:
    """What is known of a day beside its decisions and sends."""

    sources: dict[str, SourceCount]
    volume: list[CellVolume]
    stages: dict[str, float]
    wall_s: float


def channel_name(channel: notification_pb2.Channel.ValueType) -> str:
    """`push`, `email` or `in_app`."""
    return notification_pb2.Channel.Name(channel).removeprefix("CHANNEL_").lower()


def _engagements(
    entry: feed_pb2.FeedEntry, moment: datetime, response: Response
) -> list[reports_pb2.Engagement]:
    """The reports of one response: opened (e-mail, in-app: clicked) or dismissed, turned off."""
    kinds = []
    if response.reaction is Reaction.OPEN:
        pushed = entry.send.channel == PUSH
        kinds.append(Kind.ENGAGEMENT_KIND_OPEN if pushed else Kind.ENGAGEMENT_KIND_CLICK)
    elif response.reaction is Reaction.DISMISS:
        kinds.append(Kind.ENGAGEMENT_KIND_DISMISS)
    if response.disables:
        mailed = entry.send.channel == EMAIL
        kinds.append(Kind.ENGAGEMENT_KIND_UNSUBSCRIBE if mailed else Kind.ENGAGEMENT_KIND_DISABLE)
    return [
        reports_pb2.Engagement(
            engagement_id=f"{entry.send.decision_id}:{Kind.Name(kind)}",
            decision_id=entry.send.decision_id,
            user_id=entry.user_id,
            kind=kind,
            engage_time=timestamp(moment),
        )
        for kind in kinds
    ]
