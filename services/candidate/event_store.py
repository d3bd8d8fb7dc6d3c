"""The event pool and the ready queue in Postgres. All functions work inside a unit of work."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from services.candidate.aggregation import Key, Waiting
from services.candidate.events import End, Event, Route
from services.candidate.messages import decode_event, encode_event
from services.runtime.database import UnitOfWork, load_queries

QUERIES = load_queries(Path(__file__).with_name("event_queries.sql"))
NOT_RANKED = (Route.IMMEDIATE, Route.SCHEDULED)

EventKey = tuple[str, str]
"""User and event."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An accepted event on its way into the table."""

    event: Event
    route: Route
    digest: bytes
    merged_into: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one event."""

    user_id: str
    event_id: str
    end: End
    reason: str = ""
    decision_id: str = ""


async def lock_users(work: UnitOfWork, user_ids: Iterable[str]) -> set[str]:
    """Those of the users that exist, each locked against other writers of its pool."""
    rows = await work.rows(QUERIES.lock_users, {"user_ids": sorted(set(user_ids))})
    return {row.user_id for row in rows}


async def stored_digests(work: UnitOfWork, keys: Collection[EventKey]) -> dict[EventKey, bytes]:
    """Digests of those events that were accepted before."""
    rows = await work.rows(QUERIES.stored_digests, _keys(keys))
    return {(row.user_id, row.event_id): bytes(row.digest) for row in rows}


async def mergeable(work: UnitOfWork, keys: Collection[Key], now: datetime) -> dict[Key, Waiting]:
    """For each aggregation key the waiting event accepted last, where there is one."""
    if not keys:
        return {}
    users, types, names = zip(*keys, strict=True)
    params = {"user_ids": list(users), "event_types": list(types), "keys": list(names), "now": now}
    found = [
        Waiting(decode_event(row.body), row.accept_time)
        for row in await work.rows(QUERIES.mergeable_events, params)
    ]
    return {
        (kept.event.user_id, kept.event.event_type, kept.event.aggregation_key): kept
        for kept in found
    }


async def insert(work: UnitOfWork, new: Sequence[NewEvent], now: datetime) -> None:
    """Store accepted events; immediate and scheduled ones enter the ready queue."""
    events = [entry.event for entry in new]
    params = _content(events) | {
        "event_types": [event.event_type for event in events],
        "routes": [int(entry.route) for entry in new],
        "digests": [entry.digest for entry in new],
        "sources": [event.source for event in events],
        "campaign_ids": [event.campaign_id for event in events],
        "keys": [event.aggregation_key for event in events],
        "merged_into": [entry.merged_into for entry in new],
        "now": now,
    }
    await work.execute(QUERIES.insert_events, params)
    queued = [entry.event for entry in new if entry.route is not Route.RANKED]
    if queued:
        ready = _keys([(event.user_id, event.event_id) for event in queued]) | {
            "available_times": [event.deliver_time or now for event in queued],
            "expire_times": [event.expire_time for event in queued],
        }
        await work.execute(QUERIES.queue_ready, ready)


async def grow(work: UnitOfWork, events: Sequence[Event]) -> None:
    """Store the new content of waiting events."""
    if events:
        await work.execute(QUERIES.grow_events, _content(events))


async def evict(
    work: UnitOfWork, user_ids: Collection[str], pool_size: int, now: datetime
) -> set[EventKey]:
    """Bring pools down to their size; returns the events that had to leave."""
    params = {"user_ids": list(user_ids), "pool_size": pool_size, "now": now}
    return set(_pairs(await work.rows(QUERIES.evict_events, params)))


async def announce(work: UnitOfWork, user_ids: Collection[str], now: datetime) -> None:
    """Tell the reader of arrivals about these users, each once."""
    if user_ids:
        params = {"user_ids": sorted(set(user_ids)), "now": now}
        await work.execute(QUERIES.insert_arrivals, params)


async def end(
    work: UnitOfWork, endings: Sequence[Ending], routes: Collection[Route], now: datetime
) -> list[EventKey]:
    """Record ends of waiting events of these routes; returns those that ended by this call.

    Of several ends for one event the first counts. What ended leaves the ready queue.
    """
    first: dict[EventKey, Ending] = {}
    for ending in endings:
        first.setdefault((ending.user_id, ending.event_id), ending)
    if not first:
        return []
    params = _keys(first) | {
        "ends": [int(ending.end) for ending in first.values()],
        "reasons": [ending.reason for ending in first.values()],
        "decision_ids": [ending.decision_id for ending in first.values()],
        "routes": [int(route) for route in routes],
        "now": now,
    }
    ended = _pairs(await work.rows(QUERIES.end_events, params))
    if ended and any(route is not Route.RANKED for route in routes):
        await work.execute(QUERIES.leave_ready, _keys(ended))
    return ended


async def give_back(work: UnitOfWork, until: Mapping[EventKey, datetime]) -> None:
    """Give leased events back to the ready queue, each not before its time."""
    if until:
        params = _keys(until) | {"available_times": list(until.values())}
        await work.execute(QUERIES.return_ready, params)


async def waiting_about(
    work: UnitOfWork, item_ids: Collection[str] = (), campaign_ids: Collection[str] = ()
) -> list[EventKey]:
    """Waiting events about any of the items or of any of the campaigns."""
    params = {"item_ids": list(item_ids), "campaign_ids": list(campaign_ids)}
    return _pairs(await work.rows(QUERIES.waiting_about, params))


async def cancel(
    work: UnitOfWork, keys: Collection[EventKey], reason: str, now: datetime
) -> list[EventKey]:
    """End waiting events as cancelled; returns those that ended by this call."""
    endings = [Ending(user, event, End.CANCELLED, reason) for user, event in keys]
    return await end(work, endings, tuple(Route), now)


def _pairs(rows: Sequence[Row[Any]]) -> list[EventKey]:
    return [(row.user_id, row.event_id) for row in rows]


def _keys(keys: Iterable[EventKey]) -> dict[str, list[str]]:
    pairs = list(keys)
    return {"user_ids": [user for user, _ in pairs], "event_ids": [event for _, event in pairs]}


def _content(events: Sequence[Event]) -> dict[str, object]:
    return {
        "user_ids": [event.user_id for event in events],
        "event_ids": [event.event_id for event in events],
        "bodies": [encode_event(event) for event in events],
        "item_ids": [_array_literal(event.item_ids) for event in events],
        "scores": [event.source_score for event in events],
        "expire_times": [event.expire_time for event in events],
    }


def _array_literal(values: Sequence[str]) -> str:
    """Postgres array of texts; arrays of arrays can't have rows of different lengths."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"
