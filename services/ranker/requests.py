"""Rank requests as plain values, with what the protos' rules can't say checked here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.ranker.v1alpha1 import ranker_pb2
from heliograph.type.v1alpha1 import status_pb2
from numpy.typing import NDArray

from services.ranker.features import EventFacts, UserSignals
from services.ranker.features.schema import HOURS_OF_WEEK
from services.ranker.ranking import RankCall, RankedUser
from services.runtime.errors import FieldError, InvalidArgument
from services.runtime.screening import Columns, all_valid
from services.runtime.validation import ItemRules

_YEAR_9999 = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp())


@dataclass(frozen=True, slots=True)
class RankRequest:
    """A valid call, the positions of its events in the request, and the events left out."""

    call: RankCall
    positions: NDArray[np.int64]
    rejections: list[status_pb2.Rejection]


def rank_request(request: ranker_pb2.RankRequest) -> RankRequest:
    """Raises InvalidArgument for what is wrong with users, rows or time; a wrong event is only
    left out."""
    user_row = np.asarray(request.user_row, np.int64)
    _check_rows(user_row, len(request.users))
    users = _users(request.users)
    events = list(request.events)  # each look at a repeated field makes its messages anew
    positions, columns, rejections = _valid(events)
    call = RankCall(
        users=users,
        event_ids=columns["event_id"] if columns else [],
        events=_facts(columns) if columns else [],
        user_row=user_row[positions],
        deliver_time=_deliver_time(request),
    )
    return RankRequest(call, positions, rejections)


def _valid(
    events: Sequence[ranker_pb2.RankEvent],
) -> tuple[NDArray[np.int64], Columns[ranker_pb2.RankEvent] | None, list[status_pb2.Rejection]]:
    """Positions and fields of the valid events, if there are any, and why the others aren't."""
    if not events:
        return np.zeros(0, np.int64), None, []
    columns = Columns(events)
    if all_valid(columns):
        return np.arange(len(events)), columns, []
    rules = ItemRules()
    found = [rules.rejection(position, event) for position, event in enumerate(events)]
    kept = [position for position, wrong in enumerate(found) if wrong is None]
    valid = Columns([events[position] for position in kept]) if kept else None
    return np.array(kept, np.int64), valid, [wrong for wrong in found if wrong is not None]


def _check_rows(user_row: NDArray[np.int64], users: int) -> None:
    outside = np.flatnonzero(user_row >= users)
    if len(outside):
        fields = [
            FieldError(f"user_row[{row}]", f"is {user_row[row]}, but there are {users} users")
            for row in outside.tolist()
        ]
        raise InvalidArgument("user_row points past the users", fields=fields)


def _users(messages: Sequence[ranker_pb2.RankUser]) -> list[RankedUser]:
    fields: list[FieldError] = []
    seen: set[str] = set()
    users = []
    for row, message in enumerate(messages):
        if message.user_id in seen:
            fields.append(FieldError(f"users[{row}].user_id", "stands in the request before"))
        seen.add(message.user_id)
        if message.time_zone and not _is_zone(message.time_zone):
            fields.append(FieldError(f"users[{row}].time_zone", "is no IANA time zone"))
        profile = np.asarray(message.hour_profile, np.float32)
        if problem := _profile_problem(profile):
            fields.append(FieldError(f"users[{row}].hour_profile", problem))
        signals = UserSignals(
            message.segment, message.time_zone, message.locale, profile.tolist() or None
        )
        users.append(RankedUser(message.user_id, signals, message.model_version))
    if fields:
        raise InvalidArgument(f"{fields[0].path}: {fields[0].description}", fields=fields)
    return users


def _profile_problem(profile: NDArray[np.float32]) -> str:
    if not len(profile):
        return ""
    if len(profile) != HOURS_OF_WEEK:
        return f"has {len(profile)} values, not {HOURS_OF_WEEK} or none"
    if not (np.isfinite(profile) & (profile >= 0)).all():
        return "values must be finite and at least 0"
    return ""


@lru_cache(maxsize=1024)
def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _facts(events: Columns[ranker_pb2.RankEvent]) -> list[EventFacts]:
    columns = zip(  # in the order of EventFacts' fields
        events["event_type"],
        events["item_ids"],
        events["source"],
        events["source_score"],
        [
            event.create_time.seconds if event.HasField("create_time") else None
            for event in events.messages
        ],
        strict=True,
    )
    return list(map(EventFacts._make, columns))


def _deliver_time(request: ranker_pb2.RankRequest) -> int | None:
    if not request.HasField("deliver_time"):
        return None
    return int(moment(request.deliver_time, "deliver_time").timestamp())


def moment(stamp: Timestamp, field: str) -> datetime:
    """Aware time of a field. Raises InvalidArgument for one too far away to reckon with: local
    times and the days around it must exist as well."""
    if not 0 <= stamp.seconds < _YEAR_9999 or not 0 <= stamp.nanos < 10**9:
        problem = "must lie in the years 1970 to 9998, with 0–999,999,999 nanoseconds"
        raise InvalidArgument(f"{field}: {problem}", fields=[FieldError(field, problem)])
    return stamp.ToDatetime(tzinfo=UTC)


def page_start(token: str) -> int:
    """Position at which a page begins. Raises InvalidArgument for a token we never gave."""
    if not token:
        return 0
    if not token.isdecimal() or len(token) > 9:
        fields = [FieldError("page_token", "is not from an answer of this method")]
        raise InvalidArgument("page_token is not from an answer of this method", fields=fields)
    return int(token)
