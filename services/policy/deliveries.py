"""Deliveries on their way out: why one is dropped late, and what a channel's report does to it."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from enum import IntEnum, StrEnum

from services.policy.channel_bits import EMAIL, bit
from services.policy.preferences import QuietHours
from services.policy.rules.quiet_hours import quiet_until
from services.policy.stop_switches import StopSwitches


class State(StrEnum):
    """Where a delivery is."""

    WAITING = "waiting"
    LEASED = "leased"
    DELIVERED = "delivered"
    DROPPED = "dropped"
    DEAD = "dead"


class DropReason(StrEnum):
    """Why a delivery did not reach its user."""

    PAUSED = "PAUSED"
    OPT_OUT = "OPT_OUT"
    UNSUBSCRIBED = "UNSUBSCRIBED"
    UNREACHABLE = "UNREACHABLE"
    EXPIRED = "EXPIRED"
    MUTED = "MUTED"
    SNOOZED = "SNOOZED"
    QUIET_HOURS = "QUIET_HOURS"
    DEAD = "DEAD"
    WITHDRAWN = "WITHDRAWN"


class End(IntEnum):
    """What a channel reports; the proto's numbers."""

    DELIVERED = 1
    RETRY = 2
    DEAD = 3
    UNREACHABLE = 4
    WITHDRAWN = 5


@dataclass(frozen=True, slots=True)
class Receiver:
    """The recipient of a delivery as they are now. Sets of channels are bits; `quiet_hours` None:
    the deployment's."""

    opt_ins: int
    muted_channels: int
    muted_topics: Collection[str]
    unsubscribed_topics: Collection[str]
    snooze_until: datetime | None
    time_zone: str
    quiet_hours: QuietHours | None


@dataclass(slots=True)
class Delivery:
    """One row of the outbox."""

    day: date
    delivery_id: str
    decision_id: str
    user_id: str
    event_id: str
    event_type: str
    topic: str
    campaign_id: str
    critical: bool
    event: bytes
    channel: int
    locale: str
    segment: str
    experiment_group: str
    copy_style: str
    decide_time: datetime
    expire_time: datetime | None
    state: State
    due_time: datetime
    owner: str
    attempt: int
    address_key: bytes | None
    variant_id: str
    style: str
    error: str
    end_time: datetime | None
    unreported: bool = False
    """A lease before the present one ran out without a report: the channel may have taken it."""

    def expires_by(self, moment: datetime) -> bool:
        """Whether it has expired at a moment."""
        return self.expire_time is not None and self.expire_time <= moment


def late_drop(
    delivery: Delivery,
    receiver: Receiver | None,
    switches: StopSwitches,
    now: datetime,
    *,
    reachable: bool,
) -> DropReason | None:
    """Why a delivery must not go out any more; None when it may.

    The order is that of the rules of a decision. `receiver` None: the user is gone. Critical ones
    pass what the user prefers, and nothing else.
    """
    if switches.stopping(delivery.channel, delivery.event_type, delivery.campaign_id):
        return DropReason.PAUSED
    if receiver is None or not receiver.opt_ins & bit(delivery.channel):
        return DropReason.OPT_OUT
    if delivery.channel == EMAIL and delivery.topic in receiver.unsubscribed_topics:
        return DropReason.UNSUBSCRIBED
    if not reachable:
        return DropReason.UNREACHABLE
    if delivery.expires_by(now):
        return DropReason.EXPIRED
    return None if delivery.critical else _held_by_preference(delivery, receiver, now)


def _held_by_preference(delivery: Delivery, receiver: Receiver, now: datetime) -> DropReason | None:
    if delivery.topic in receiver.muted_topics or receiver.muted_channels & bit(delivery.channel):
        return DropReason.MUTED
    if receiver.snooze_until is not None and now < receiver.snooze_until:
        return DropReason.SNOOZED
    return None


def quiet_end(
    delivery: Delivery, receiver: Receiver, now: datetime, default: QuietHours
) -> datetime | None:
    """Until when a delivery has to wait for its receiver's quiet hours to end; None when it may go
    out. Critical ones pass."""
    if delivery.critical:
        return None
    return quiet_until(now, receiver.time_zone, receiver.quiet_hours or default)


@dataclass(frozen=True, slots=True)
class Ack:
    """A channel's report on one delivery. `retry_time` is set for RETRY."""

    delivery_id: str
    end: End
    variant_id: str = ""
    style: str = ""
    retry_time: datetime | None = None
    error: str = ""


class Verdict(StrEnum):
    """What a report means; the values of refusals are their reasons."""

    APPLY = "APPLY"
    REPLAY = "REPLAY"
    UNKNOWN_DELIVERY = "UNKNOWN_DELIVERY"
    ALREADY_ENDED = "ALREADY_ENDED"
    NOT_LEASED = "NOT_LEASED"


_END_STATES = {
    End.DELIVERED: State.DELIVERED,
    End.DEAD: State.DEAD,
    End.UNREACHABLE: State.DEAD,
    End.WITHDRAWN: State.DROPPED,
}


def judge(ack: Ack, delivery: Delivery | None, owner: str) -> Verdict:
    """What `owner`'s report means for a delivery.

    The first end stands. That the channel took it is true whoever says so, even after the lease
    went to another; only the lease's owner may have it tried again or give it up.
    """
    if delivery is None:
        return Verdict.UNKNOWN_DELIVERY
    if delivery.end_time is not None:
        same = _END_STATES.get(ack.end) is delivery.state
        return Verdict.REPLAY if same else Verdict.ALREADY_ENDED
    if ack.end is End.DELIVERED:
        return Verdict.APPLY if delivery.attempt > 0 else Verdict.NOT_LEASED
    if delivery.owner != owner:
        return Verdict.NOT_LEASED
    if delivery.state is State.LEASED:
        return Verdict.APPLY
    is_repeat = ack.end is End.RETRY and delivery.attempt > 0
    return Verdict.REPLAY if is_repeat else Verdict.NOT_LEASED


def apply(ack: Ack, delivery: Delivery, now: datetime) -> None:
    """Change a delivery as an accepted report says. A retry after the expiry is due at the expiry,
    when it is dropped."""
    delivery.error = DropReason.WITHDRAWN if ack.end is End.WITHDRAWN else ack.error
    if ack.end is End.RETRY:
        delivery.state = State.WAITING
        due = ack.retry_time or now
        delivery.due_time = min(due, delivery.expire_time) if delivery.expire_time else due
        return
    delivery.state = _END_STATES[ack.end]
    delivery.end_time = now
    if ack.end is End.DELIVERED:
        delivery.variant_id, delivery.style = ack.variant_id, ack.style


def day_of(identity: str) -> date | None:
    """The UTC day that a decision's or delivery's id begins with; None when it names none."""
    prefix, dot, _ = identity.partition(".")
    if not dot or len(prefix) != 8 or not (prefix.isascii() and prefix.isdigit()):
        return None
    try:
        return date(int(prefix[:4]), int(prefix[4:6]), int(prefix[6:]))
    except ValueError:
        return None
