"""Merging events of one user, type and key that arrive close together.

The event that waits stays, under its own id, and takes the newcomer in; the newcomer is recorded
with the end MERGED. So what a decision under way has read keeps its name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.candidate.events import Event, Route, TypeRules

MOST_ACTORS = 32
MOST_ITEMS = 32

Key = tuple[str, str, str]
"""User, event type, aggregation key."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that waits, and when it was accepted."""

    event: Event
    accept_time: datetime


@dataclass(slots=True)
class MergePlan:
    """What is to be stored for newcomers."""

    merged_into: dict[tuple[str, str], str] = field(default_factory=dict)
    """Id of the event that took a newcomer in, by the newcomer's (user, event)."""
    grown: dict[tuple[str, str], Event] = field(default_factory=dict)
    """Events that took newcomers in, as they are now, by (user, event); a newcomer itself may be
    among them."""


def aggregation_key(event: Event, rules: TypeRules) -> Key | None:
    """The key under which an event may be merged; None when it never is."""
    if rules.window is None or rules.route is not Route.RANKED or not event.aggregation_key:
        return None
    return event.user_id, event.event_type, event.aggregation_key


def plan_merges(
    newcomers: Iterable[tuple[Event, TypeRules]], waiting: Mapping[Key, Waiting], now: datetime
) -> MergePlan:
    """Merge newcomers, in their order, into what waits or into an earlier newcomer.

    `waiting` holds for each key the event accepted last. A newcomer is merged when that was at
    most the type's window ago.
    """
    plan = MergePlan()
    current = dict(waiting)
    for event, rules in newcomers:
        key = aggregation_key(event, rules)
        if key is None or rules.window is None:
            continue
        kept = current.get(key)
        if kept is None or now - kept.accept_time > rules.window:
            current[key] = Waiting(event, now)
            continue
        grown = merge(kept.event, event)
        current[key] = Waiting(grown, kept.accept_time)
        plan.merged_into[event.user_id, event.event_id] = grown.event_id
        plan.grown[grown.user_id, grown.event_id] = grown
    return plan


def merge(kept: Event, newer: Event) -> Event:
    """`kept` with `newer` taken in: the newer's words and items first, both's actors (the latest
    32), the better score and the later expiry, and the number of events that stand in it."""
    return replace(
        kept,
        merged_count=kept.merged_count + newer.merged_count,
        payload=newer.payload or kept.payload,
        item_ids=_united(newer.item_ids, kept.item_ids)[:MOST_ITEMS],
        actor_ids=_united(kept.actor_ids, newer.actor_ids)[-MOST_ACTORS:],
        source_score=max(kept.source_score, newer.source_score),
        expire_time=max(kept.expire_time, newer.expire_time),
    )


def _united(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))
