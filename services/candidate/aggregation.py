"""Merging events of one user, type and key: within a window, and into digests that are held.

The event that waits stays, under its own id, and takes the newcomer in; the newcomer is recorded
with the end MERGED. So what a decision under way has read keeps its name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from services.candidate.digests import ready_time
from services.candidate.events import MOST_ACTORS, Event, Route, TypeRules, actor_sketch_of

MOST_ITEMS = 32

Key = tuple[str, str, str]
"""User, event type, aggregation key."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that waits, and when it was accepted."""

    event: Event
    accept_time: datetime
    held_until: datetime | None = None
    """A digest that isn't ready before this; None: it was ready from the start, or is."""


@dataclass(slots=True)
class MergePlan:
    """What is to be stored for newcomers."""

    merged_into: dict[tuple[str, str], str] = field(default_factory=dict)
    """Id of the event that took a newcomer in, by the newcomer's (user, event)."""
    grown: dict[tuple[str, str], Event] = field(default_factory=dict)
    """Events that took newcomers in, as they are now, by (user, event); a newcomer itself may be
    among them."""
    ready_times: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """When digests are ready, by (user, event): those that begin, and those that were held and have
    become large enough, which are ready now."""


def aggregation_key(event: Event, rules: TypeRules) -> Key | None:
    """The key under which an event may be merged; None when it never is."""
    if rules.window is None or rules.route is not Route.RANKED or not event.aggregation_key:
        return None
    return event.user_id, event.event_type, event.aggregation_key


def plan_merges(
    newcomers: Iterable[tuple[Event, TypeRules]],
    waiting: Mapping[Key, Waiting],
    zones: Mapping[str, ZoneInfo],
    now: datetime,
) -> MergePlan:
    """Merge newcomers, in their order, into what waits or into an earlier newcomer.

    `waiting` holds for each key the event accepted last. A newcomer is merged when that is held,
    or was accepted at most the type's window ago. `zones` are the time zones of the users whose
    digests may have an hour.
    """
    plan = MergePlan()
    current = dict(waiting)
    for event, rules in newcomers:
        key = aggregation_key(event, rules)
        if key is None:
            continue
        kept = current.get(key)
        if kept is not None and _takes_in(kept, rules, now):
            current[key] = _grow(plan, kept, event, rules, now)
        else:
            current[key] = _begin(plan, event, rules, zones, now)
    return plan


def _takes_in(kept: Waiting, rules: TypeRules, now: datetime) -> bool:
    held = kept.held_until is not None and now < kept.held_until
    return held or (rules.window is not None and now - kept.accept_time <= rules.window)


def _begin(
    plan: MergePlan,
    event: Event,
    rules: TypeRules,
    zones: Mapping[str, ZoneInfo],
    now: datetime,
) -> Waiting:
    if rules.digest is None:
        return Waiting(event, now)
    until = ready_time(rules.digest, now, zones.get(event.user_id, ZoneInfo("UTC")))
    if until >= event.expire_time:
        return Waiting(event, now)
    plan.ready_times[event.user_id, event.event_id] = until
    return Waiting(event, now, until)


def _grow(plan: MergePlan, kept: Waiting, event: Event, rules: TypeRules, now: datetime) -> Waiting:
    grown, until = merge(kept.event, event), kept.held_until
    plan.merged_into[event.user_id, event.event_id] = grown.event_id
    plan.grown[grown.user_id, grown.event_id] = grown
    enough = rules.digest.minimum_count if rules.digest else 0
    if until is not None and now < until and 0 < enough <= grown.merged_count:
        plan.ready_times[grown.user_id, grown.event_id] = until = now
    return Waiting(grown, kept.accept_time, until)


def merge(kept: Event, newer: Event) -> Event:
    """`kept` with `newer` taken in: the newer's words and items first, both's actors (the latest
    32, and the count of all), the better score and the later expiry, and the number of events that
    stand in it."""
    actors = _united(kept.actor_ids, newer.actor_ids)
    return kept._replace(
        merged_count=kept.merged_count + newer.merged_count,
        payload=newer.payload or kept.payload,
        item_ids=_united(newer.item_ids, kept.item_ids)[:MOST_ITEMS],
        actor_ids=actors[-MOST_ACTORS:],
        actor_sketch=actor_sketch_of(kept, newer) if _too_many(actors, kept, newer) else (),
        source_score=max(kept.source_score, newer.source_score),
        expire_time=max(kept.expire_time, newer.expire_time),
    )


def _too_many(actors: tuple[str, ...], kept: Event, newer: Event) -> bool:
    return len(actors) > MOST_ACTORS or bool(kept.actor_sketch or newer.actor_sketch)


def _united(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))
