"""Daily generation."""

from collections.abc import AsyncIterator
from datetime import date, timedelta

from google.protobuf.duration_pb2 import Duration
from heliograph.candidate.v1alpha1 import generating_pb2

from services.candidate.handlers.parts import Calls, Context
from services.candidate.orders import Order
from services.candidate.progress import Report
from services.candidate.upkeep import KEEP_MARKS
from services.runtime.errors import FieldError, InvalidArgument

DEFAULT_PER_SOURCE = 10
FURTHEST_AHEAD = timedelta(days=1)
"""A generated day; where a caller's day has begun, it is tomorrow in UTC at the latest."""


class GeneratingCalls(Calls):
    """GenerateDaily."""

    async def GenerateDaily(
        self, request: generating_pb2.GenerateDailyRequest, context: Context
    ) -> AsyncIterator[generating_pb2.GenerateDailyResponse]:
        order = read_order(request, self.parts.clock.now().date())
        async for progress in self.parts.generator.run(order):
            yield write_progress(progress)


def read_order(request: generating_pb2.GenerateDailyRequest, today: date) -> Order:
    """What to generate. Raises InvalidArgument."""
    return Order(
        day=_day(request.day, today) if request.day else today,
        user_ids=request.user_ids,
        sources=request.sources,
        per_source=request.candidates_per_source or DEFAULT_PER_SOURCE,
        shard=request.shard,
        shard_count=request.shard_count or 1,
        ask_all=request.ask_all,
    )


def _day(text: str, today: date) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise _wrong_day("is not a day of the calendar, as YYYY-MM-DD") from None
    if today - day >= KEEP_MARKS:
        raise _wrong_day(f"is {KEEP_MARKS.days} or more days ago: what it made is forgotten")
    if day - today > FURTHEST_AHEAD:
        raise _wrong_day(f"is later than tomorrow, {today + FURTHEST_AHEAD} in UTC")
    return day


def _wrong_day(problem: str) -> InvalidArgument:
    return InvalidArgument(f"day {problem}", fields=[FieldError("day", problem)])


def write_progress(progress: Report) -> generating_pb2.GenerateDailyResponse:
    """How far a run is."""
    return generating_pb2.GenerateDailyResponse(
        user_count=progress.users,
        total_user_count=progress.total,
        sources=_sources(progress),
        done=progress.done,
        stages=[
            generating_pb2.GenerationStage(stage=name, wall_time=_duration(seconds))
            for name, seconds in progress.stages.items()
        ],
    )


def _sources(progress: Report) -> list[generating_pb2.SourceProgress]:
    savings = progress.savings()
    return [
        generating_pb2.SourceProgress(
            source=name,
            proposed_count=made.proposed,
            accepted_count=made.accepted,
            dropped_count=made.dropped,
            failed_user_count=made.failed_users,
            asked_user_count=savings[name].asked,
            skipped_user_count=savings[name].skipped,
            lost_count=savings[name].lost,
            lost_count_error=savings[name].lost_error,
            ask_time=_duration(savings[name].seconds),
            saved_time=_duration(savings[name].saved_seconds),
        )
        for name, made in progress.made.items()
    ]


def _duration(seconds: float) -> Duration:
    nanos = round(seconds * 1e9)
    return Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
