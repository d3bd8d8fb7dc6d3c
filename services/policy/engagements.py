"""Reports of what users did: which are taken, and what they change about the user."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import IntEnum, StrEnum

from services.policy.channel_bits import EMAIL, bit


class Kind(IntEnum):
    """What a user did with a notification; the proto's numbers."""

    OPEN = 1
    CLICK = 2
    DISMISS = 3
    UNSUBSCRIBE = 4
    DISABLE = 5


class Refusal(StrEnum):
    """Why a report is not taken."""

    UNKNOWN_DECISION = "UNKNOWN_DECISION"
    UNKNOWN_USER = "UNKNOWN_USER"
    ERASED_USER = "ERASED_USER"
    WRONG_USER = "WRONG_USER"
    WRONG_CHANNEL = "WRONG_CHANNEL"
    NOT_SENT = "NOT_SENT"
    TOO_EARLY = "TOO_EARLY"
    TOO_OLD = "TOO_OLD"
    IN_FUTURE = "IN_FUTURE"


@dataclass(frozen=True, slots=True)
class ReportLimits:
    """Which times are believed."""

    future: timedelta = timedelta(minutes=5)
    """How far ahead of this service's clock a reporter's clock may be."""
    session_age: timedelta = timedelta(days=400)
    """Sessions that began longer ago are not kept."""


@dataclass(frozen=True, slots=True)
class Engagement:
    """A report of what a user did with a notification."""

    engagement_id: str
    decision_id: str
    user_id: str
    kind: Kind
    engage_time: datetime


@dataclass(frozen=True, slots=True)
class Decided:
    """The decision behind a notification. `attempt` None: its delivery is not kept any more."""

    day: date
    decision_id: str
    user_id: str
    send: bool
    event_id: str
    event_type: str
    item_ids: tuple[str, ...]
    channel: int
    decide_time: datetime
    segment: str
    delivery_id: str
    topic: str
    attempt: int | None


@dataclass(frozen=True, slots=True)
class Session:
    """A report of a session, or of the app's removal. `duration` None: unknown."""

    session_id: str
    user_id: str
    start_time: datetime
    duration: timedelta | None
    app_deleted: bool


@dataclass(slots=True)
class UserChange:
    """What reports change about one user."""

    active_times: list[datetime] = field(default_factory=list)
    disabled: int = 0
    """Channels, as bits, whose opt-in ends."""
    unsubscribed_topics: set[str] = field(default_factory=set)


def engagement_refusal(
    engagement: Engagement, decided: Decided | None, now: datetime, limits: ReportLimits
) -> Refusal | None:
    """Why an engagement is not taken; None when it is."""
    if decided is None:
        return Refusal.UNKNOWN_DECISION
    if decided.user_id != engagement.user_id:
        return Refusal.WRONG_USER
    if not decided.send or decided.attempt == 0:
        return Refusal.NOT_SENT
    if engagement.engage_time < decided.decide_time:
        return Refusal.TOO_EARLY
    if engagement.engage_time > now + limits.future:
        return Refusal.IN_FUTURE
    if engagement.kind is Kind.UNSUBSCRIBE and decided.channel != EMAIL:
        return Refusal.WRONG_CHANNEL
    return None


def session_refusal(session: Session, now: datetime, limits: ReportLimits) -> Refusal | None:
    """Why a session of a known user is not taken; None when it is."""
    if session.start_time > now + limits.future:
        return Refusal.IN_FUTURE
    if session.start_time < now - limits.session_age:
        return Refusal.TOO_OLD
    return None


def note_engagement(change: UserChange, engagement: Engagement, decided: Decided) -> None:
    """Add to a user's changes: opens and clicks are activity; disabling ends the channel's opt-in,
    unsubscribing the e-mail opt-in of the topic."""
    if engagement.kind in (Kind.OPEN, Kind.CLICK):
        change.active_times.append(engagement.engage_time)
    elif engagement.kind is Kind.DISABLE:
        change.disabled |= bit(decided.channel)
    elif engagement.kind is Kind.UNSUBSCRIBE:
        change.unsubscribed_topics.add(decided.topic)
