"""The tables of `heliograph explain`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.policy.v1alpha1 import recipients_pb2
from heliograph.type.v1alpha1 import notification_pb2
from rich.console import RenderableType
from rich.table import Column, Table

MOST_VALUES = 6
WHOLE = ("Decision", "Delivery", "Slot", "Event")
"""Columns of ids, which people copy: never cut."""


def render(parts: Mapping[str, Message]) -> Iterator[RenderableType]:
    """One table for each part, in the order of the parts."""
    for name, part in parts.items():
        yield from _RENDERERS[name](part)


def _time(stamp: Timestamp) -> str:
    return stamp.ToDatetime().strftime("%Y-%m-%d %H:%M:%S") if stamp.seconds else ""


def _channel(channel: int) -> str:
    name = notification_pb2.Channel.Name(notification_pb2.Channel.ValueType(channel))
    return "" if channel == 0 else name.removeprefix("CHANNEL_").lower()


def _end(end: int) -> str:
    name = notification_pb2.EventEnd.Name(notification_pb2.EventEnd.ValueType(end))
    return "waiting" if end == 0 else name.removeprefix("EVENT_END_").lower()


def _outcome(state: str, detail: str) -> str:
    return f"{state}: {detail}" if detail else state


def _facts(title: str, facts: Mapping[str, object]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in facts.items():
        table.add_row(name, str(value))
    return table


def _table(title: str, *names: str) -> Table:
    columns = [Column(name, no_wrap=name in WHOLE) for name in names]
    return Table(*columns, title=title, title_justify="left")


def _decision(part: Any) -> Iterator[RenderableType]:
    yield _facts(f"Decision {part.decision.decision_id}", _decision_facts(part))
    yield _rules(part)
    yield _options(part)


def _decision_facts(part: Any) -> dict[str, object]:
    decision = part.decision
    arm = notification_pb2.Arm.Name(decision.arm).removeprefix("ARM_").lower()
    became = _outcome(part.delivery_state, part.delivery_detail)
    taken = f"{decision.event_type} {decision.event_id} by {_channel(decision.channel)}"
    kinds = [notification_pb2.EngagementKind.Name(e.kind) for e in part.engagements]
    silent = "did nothing (yet)" if part.delivery_state == "delivered" else "saw nothing (yet)"
    ranked = f"{decision.model_version} / {decision.rank_id}" if decision.rank_id else "not ranked"
    return {
        "user": decision.user_id,
        "slot": f"{decision.slot_id} (due {_time(decision.slot_time)})",
        "decided": _time(decision.decide_time),
        "taken": taken if decision.send else "no send",
        "why": decision.reason + (f", forced by {decision.forced_by}" if decision.forced else ""),
        "arm": f"{arm} (probability of the arm {decision.arm_propensity:.4f})",
        "propensity of what was taken": f"{decision.propensity:.6f}",
        "utility / threshold": f"{decision.utility:.5f} / {decision.threshold:.5f}",
        "segment / experiment group": f"{decision.segment} / {decision.experiment_group}",
        "model / rank id": ranked,
        "delivery": f"{decision.delivery_id} {became}".strip(),
        "the user then": ", ".join(k.removeprefix("ENGAGEMENT_KIND_").lower() for k in kinds)
        or silent,
    }


def _rules(part: Any) -> Table:
    table = _table("Rules in order", "Rule", "Removed", "Left")
    for step in part.steps:
        table.add_row(step.rule, str(step.removed_count), str(step.left_count))
    return table


def _options(part: Any) -> Table:
    columns = ("Event", "Channel", "Removed by", "Detail", "Utility", "Threshold", "Propensity")
    table = _table("Options, no send included", *columns)
    for option in part.options:
        table.add_row(
            option.event_id or "(no send)",
            _channel(option.channel),
            option.removed_by,
            option.detail,
            f"{option.utility:.5f}",
            f"{option.threshold:.5f}",
            f"{option.propensity:.6f}",
        )
    return table


def _context(part: Any) -> Iterator[RenderableType]:
    for context in part.contexts:
        yield _facts(f"User {context.user_id} now (policy)", _context_facts(context))


def _context_facts(context: recipients_pb2.UserContext) -> dict[str, object]:
    groups = ", ".join(f"{name}={group}" for name, group in sorted(context.experiments.items()))
    return {
        "segment": context.segment,
        "time zone / locale": f"{context.time_zone} / {context.locale}",
        "experiments": groups or "none",
        "next slots (UTC)": ", ".join(_time(time) for time in context.next_slot_times[:3]),
    }


def _decisions(part: Any) -> Iterator[RenderableType]:
    columns = ("Decision", "Decided", "Taken", "Channel", "Why", "Propensity", "Became")
    table = _table("Decisions, newest first (policy)", *columns)
    became = {one.delivery_id: _outcome(one.state, one.detail) for one in part.deliveries}
    for decision in part.decisions:
        table.add_row(
            decision.decision_id,
            _time(decision.decide_time),
            decision.event_id or "no send",
            _channel(decision.channel),
            decision.reason,
            f"{decision.propensity:.4f}",
            became.get(decision.delivery_id, ""),
        )
    yield table


def _events(part: Any) -> Iterator[RenderableType]:
    columns = ("Event", "Type", "Source", "Because", "Items", "Accepted", "End", "Why")
    table = _table("Events (candidate)", *columns)
    for pooled in part.events:
        event = pooled.event
        table.add_row(
            event.event_id,
            event.event_type,
            f"{event.source} ({event.source_score:.3f})",
            " ".join([event.payload.get("reason", ""), *event.actor_ids[:MOST_VALUES]]),
            ", ".join(event.item_ids[:MOST_VALUES]),
            _time(pooled.accept_time),
            f"{_end(pooled.end)} {_time(pooled.end_time)}",
            pooled.end_reason,
        )
    yield table


def _features(part: Any) -> Iterator[RenderableType]:
    title = f"Features at {_time(part.snapshot_time)}, model {part.model_version} (ranker)"
    table = _table(title, "Input", "Shape", "Values")
    for feature in part.features:
        values = ", ".join(f"{value:.4g}" for value in feature.values[:MOST_VALUES])
        more = f" … ({len(feature.values)})" if len(feature.values) > MOST_VALUES else ""
        table.add_row(feature.name, " × ".join(map(str, feature.shape)), values + more)
    yield table


def _copy(part: Any) -> Iterator[RenderableType]:
    columns = ("Delivery", "Variant", "Title", "Body", "Propensity")
    table = _table("Words (copygen)", *columns)
    for copy in part.copies:
        table.add_row(
            copy.delivery_id, copy.variant_id, copy.title, copy.body, f"{copy.propensity:.4f}"
        )
    yield table


def _attempts(part: Any) -> Iterator[RenderableType]:
    columns = ("Attempt", "Adapter", "Time", "Outcome")
    table = _table("Deliveries (pacer)", *columns)
    for attempt in part.attempts:
        outcome = "delivered" if attempt.delivered else attempt.error
        table.add_row(str(attempt.attempt), attempt.adapter, _time(attempt.attempt_time), outcome)
    yield table


def _slots(part: Any) -> Iterator[RenderableType]:
    columns = ("Slot", "Due", "Processed", "Decision")
    table = _table("Slots, newest first (pacer)", *columns)
    for slot in part.slots:
        processed = _time(slot.process_time) or "waits"
        table.add_row(slot.slot_id, _time(slot.slot_time), processed, slot.decision_id)
    yield table


def _inbox(part: Any) -> Iterator[RenderableType]:
    columns = ("Delivered", "Channel", "Title", "Body", "Decision")
    table = _table("Inbox, newest first (pacer)", *columns)
    for message in part.messages:
        table.add_row(
            _time(message.deliver_time),
            _channel(message.channel),
            message.title,
            message.body,
            message.decision_id,
        )
    yield table


_RENDERERS: Mapping[str, Callable[[Any], Iterator[RenderableType]]] = {
    "decision": _decision,
    "context": _context,
    "decisions": _decisions,
    "events": _events,
    "features": _features,
    "copy": _copy,
    "attempts": _attempts,
    "slots": _slots,
    "inbox": _inbox,
}
