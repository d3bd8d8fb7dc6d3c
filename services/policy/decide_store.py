"""What deciding reads and writes, a batch at a time."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from services.policy import ids
from services.policy.batch import Fatigue, Send, Slot, User
from services.policy.deciding import Decision
from services.policy.experiments import Experiments
from services.policy.judging import Cell, Offers
from services.policy.preferences import QuietHours
from services.policy.segments import ActiveDays, segment_of
from services.runtime.database import UnitOfWork, load_queries
from services.runtime.partitions import ensure_day_partitions

_queries = load_queries(Path(__file__).with_name("decide.sql"))

_DECISION_COLUMNS = (
    "day", "user_id", "slot_id", "decision_id", "slot_time", "decide_time", "send", "event_id",
    "event_type", "item_ids", "channel", "reason", "arm", "arm_propensity", "propensity",
    "forced_by", "utility", "threshold", "segment", "experiment_group", "rank_id",
    "model_version", "delivery_id", "answer", "explanation",
)  # fmt: skip
_OUTBOX_COLUMNS = (
    "day", "delivery_id", "decision_id", "user_id", "event_id", "event_type", "topic",
    "campaign_id", "critical", "event", "channel", "locale", "segment", "experiment_group",
    "copy_style", "decide_time", "expire_time", "due_time",
)  # fmt: skip
_VOLUME_COLUMNS = (
    "day", "experiment_group", "segment", "channel", "kind", "count", "record_time",
)  # fmt: skip
_OFFER_COLUMNS = (
    "day", "experiment_group", "segment", "channel", "record_time", "offer_count", "user_hashes",
    "utilities",
)  # fmt: skip

_SEPARATOR = "\x1f"

Key = tuple[str, str]
"""User and slot id."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A decision with its messages, ready to be written."""

    decision: Decision
    answer: bytes
    event: bytes
    """The Event message sent; empty for no send."""


async def read_users(
    work: UnitOfWork,
    user_ids: Iterable[str],
    experiments: Experiments,
    now: datetime,
    *,
    lock: bool,
) -> dict[str, User]:
    """Users by id, with their fatigue, locked unless it is a dry run; unknown ones are missing.

    The recipients are read after the locks, so that what committed meanwhile is seen.
    """
    asked = {"user_ids": sorted(set(user_ids))}
    query = _queries.lock_fatigue if lock else _queries.read_fatigue
    fatigue = {row.user_id: _fatigue(row) for row in await work.rows(query, asked)}
    today = now.astimezone(UTC).date()
    return {
        row.user_id: _user(row, fatigue[row.user_id], experiments, today)
        for row in await work.rows(_queries.read_recipients, asked)
        if row.user_id in fatigue
    }


async def stored_answers(work: UnitOfWork, slots: Sequence[Slot]) -> dict[Key, bytes]:
    """Decision messages given before for these slots. Invariant 2."""
    asked: dict[str, list[Any]] = {
        "days": [ids.day_of_slot(slot.slot_time) for slot in slots],
        "user_ids": [slot.user_id for slot in slots],
        "slot_ids": [slot.slot_id for slot in slots],
    }
    rows = await work.rows(_queries.stored_decisions, asked)
    ready = [slot for slot in slots if slot.ready]
    if ready:
        asked = {
            "user_ids": [slot.user_id for slot in ready],
            "event_ids": [slot.events[0].event_id for slot in ready],
            "slot_ids": [slot.slot_id for slot in ready],
        }
        rows = [*rows, *await work.rows(_queries.stored_ready_decisions, asked)]
    return {(row.user_id, row.slot_id): bytes(row.answer) for row in rows}


async def mark_decided_events(
    work: UnitOfWork, slots: Sequence[Slot], users: Mapping[str, User]
) -> None:
    """Tell each user which of the slots' events were decided for good before."""
    asked = {
        "user_ids": [slot.user_id for slot in slots],
        "event_ids": [_SEPARATOR.join(event.event_id for event in slot.events) for slot in slots],
    }
    for row in await work.rows(_queries.decided_events, asked):
        users[row.user_id].decided_events.add(row.event_id)


async def write(
    work: UnitOfWork, stored: Sequence[Stored], offers: Mapping[Cell, Offers], now: datetime
) -> None:
    """Decisions, ended events, outbox, fatigue, volume and offers of a batch. Invariant 4: in the
    unit of work of the caller, who adds the feed."""
    decisions = [one.decision for one in stored]
    today = now.astimezone(UTC).date()
    days = {decision.day for decision in decisions}
    for table, needed in (("decisions", days), ("outbox", days), ("volume", {today})):
        await ensure_day_partitions(work, table, needed)
    await work.copy("decisions", _DECISION_COLUMNS, map(_decision_row, stored))
    ended = [
        (one.user.user_id, one.ended_event, one.decision_id, one.day, one.event is not None)
        for one in decisions
        if one.ended_event
    ]
    columns = ("user_id", "event_id", "decision_id", "day", "sent")
    await work.copy("decided_events", columns, ended)
    sends = [one for one in stored if one.decision.event is not None]
    await work.copy("outbox", _OUTBOX_COLUMNS, map(_outbox_row, sends))
    await _store_fatigue(work, {one.user.user_id: one.user for one in decisions}.values())
    counted = Counter(one.decision.cell for one in sends if not one.decision.critical)
    rows = [(today, *place, "decided", count, now) for place, count in sorted(counted.items())]
    await work.copy("volume", _VOLUME_COLUMNS, rows)
    await _write_offers(work, offers, now, today)


async def _write_offers(
    work: UnitOfWork, offers: Mapping[Cell, Offers], now: datetime, today: date
) -> None:
    if not offers:
        return
    await ensure_day_partitions(work, "offers", {today})
    rows = [
        (today, *place, now, one.count, one.user_hashes, one.utilities)
        for place, one in sorted(offers.items())
    ]
    await work.copy("offers", _OFFER_COLUMNS, rows)


async def _store_fatigue(work: UnitOfWork, users: Iterable[User]) -> None:
    changed = [user for user in users if user.fatigue_changed]
    if not changed:
        return
    kept = [user.fatigue for user in changed]
    columns = {
        "user_ids": [user.user_id for user in changed],
        "send_times": [_array(send.time.isoformat() for send in one.sends) for one in kept],
        "send_channels": [_array(str(send.channel) for send in one.sends) for one in kept],
        "send_deliveries": [_array(send.delivery_id for send in one.sends) for one in kept],
        "arm_days": [one.arm_day for one in kept],
        "arm_likelihoods": [_array(map(repr, one.arm_likelihoods)) for one in kept],
    }
    await work.execute(_queries.store_fatigue, columns)


def _array(values: Iterable[str]) -> str:
    """A Postgres array of values that need no quotes."""
    return "{" + ",".join(values) + "}"


def _fatigue(row: Row[Any]) -> Fatigue:
    sends = map(Send, row.send_times, row.send_channels, row.send_deliveries)
    return Fatigue(list(sends), row.arm_day, tuple(row.arm_likelihoods or ()))


def _user(row: Row[Any], fatigue: Fatigue, experiments: Experiments, today: date) -> User:
    active = ActiveDays.from_signed(row.activity_day or date.min, row.activity)
    create_day = row.create_time.astimezone(UTC).date()
    quiet = None if row.quiet_start is None else QuietHours(row.quiet_start, row.quiet_end)
    return User(
        user_id=row.user_id,
        time_zone=row.time_zone,
        locale=row.locale,
        segment=segment_of(create_day, active, today),
        membership=experiments.membership(row.user_id),
        opt_ins=row.opt_ins,
        reachable=row.reachable,
        muted_channels=row.muted_channels,
        muted_topics=frozenset(row.muted_topics),
        unsubscribed_topics=frozenset(row.unsubscribed_topics),
        quiet_hours=quiet,
        snooze_until=row.snooze_until,
        slot_hours=tuple(hour for hour in range(24) if row.slot_hours >> hour & 1),
        fatigue=fatigue,
    )


def _decision_row(stored: Stored) -> tuple[object, ...]:
    one, event, user = stored.decision, stored.decision.event, stored.decision.user
    assert one.explanation is not None
    return (
        one.day,
        user.user_id,
        one.slot.slot_id,
        one.decision_id,
        one.slot.slot_time,
        one.decide_time,
        event is not None,
        event.event_id if event else "",
        event.event_type.name if event else "",
        list(event.item_ids) if event else [],
        one.channel,
        one.reason,
        int(one.arm),
        one.arm_propensity,
        one.propensity,
        one.forced_by,
        one.utility,
        one.threshold,
        user.segment,
        user.membership.threshold_group,
        one.slot.rank_id,
        one.slot.model_version,
        one.delivery_id,
        stored.answer,
        one.explanation.pack(),
    )


def _outbox_row(stored: Stored) -> tuple[object, ...]:
    one, event, user = stored.decision, stored.decision.event, stored.decision.user
    assert event is not None
    expires = event.expire_time != float("inf")
    return (
        one.day,
        one.delivery_id,
        one.decision_id,
        user.user_id,
        event.event_id,
        event.event_type.name,
        event.event_type.topic,
        event.campaign_id,
        event.event_type.critical,
        stored.event,
        one.channel,
        user.locale,
        user.segment,
        user.membership.threshold_group,
        user.membership.copy_style,
        one.decide_time,
        datetime.fromtimestamp(event.expire_time, UTC) if expires else None,
        one.decide_time,
    )
