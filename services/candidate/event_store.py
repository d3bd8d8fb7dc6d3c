"""The event pool and the ready queue in Postgres. All functions work inside a unit of work."""

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple, Self

from sqlalchemy import Row

from services.candidate import literals
from services.candidate.aggregation import Key, Waiting
from services.candidate.events import End, Event, Route
from services.candidate.messages import decode_event, encode_event
from services.candidate.repeats import MOST_PAST, Content
from services.candidate.sketches import pack
from services.runtime import binary_rows
from services.runtime.database import Statement, UnitOfWork, load_queries

QUERIES = load_queries(Path(__file__).with_name("event_queries.sql"))
COLUMNS = (
    "user_id",
    "event_id",
    "event_type",
    "source",
    "campaign_id",
    "aggregation_key",
    "item_ids",
    "route",
    "source_score",
    "expire_time",
    "accept_time",
    "digest",
    "body",
    "end_kind",
    "end_time",
    "merged_into",
    "held",
    "ready_time",
    "actor_sketch",
    "end_reason",
    "content",
)
"""Of the table events, in the order of `_rows`."""
NOT_RANKED = (Route.IMMEDIATE, Route.SCHEDULED)

EventKey = tuple[str, str]
"""User and event."""


class NewEvent(NamedTuple):
    """An accepted event on its way into the table."""

    event: Event
    route: Route
    digest: bytes
    body: bytes
    """Its stored form."""
    merged_into: str = ""
    ready_time: datetime | None = None
    """When a digest is ready; None: it isn't one that is held."""
    suppressed: str = ""
    """Why it ends at once; empty: it doesn't."""
    content: Content | None = None
    """What later events are compared with; None: its type lets events be repeated."""

    @property
    def waits(self) -> bool:
        """Whether it is a waiting event of its own."""
        return not self.merged_into and not self.suppressed

    def changed(self, event: Event) -> Self:
        """The same with other content."""
        return self._replace(event=event, body=encode_event(event))


_PLAIN_FATE = b"".join(
    [
        binary_rows.NULL,
        binary_rows.NULL,
        *binary_rows.texts([""]),
        binary_rows.flag(False),
        binary_rows.NULL,
        *binary_rows.texts(["", ""]),
        binary_rows.NULL,
    ]
)
_NUMBERS = Struct(">ihidiqiq").pack
"""Fields of route, score and two times, each behind its length."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one event."""

    user_id: str
    event_id: str
    end: End
    reason: str = ""
    decision_id: str = ""


async def lock_users(work: UnitOfWork, user_ids: Iterable[str]) -> Set[str]:
    """Those of the users that exist, each locked against other writers of its pool, in the order of
    their ids."""
    params = {"user_ids": literals.texts(set(user_ids))}
    return {row.user_id for row in await work.rows(QUERIES.lock_users, params)}


async def claim_pools(work: UnitOfWork, arriving: Mapping[str, int]) -> dict[str, int]:
    """The same, with how many events at most wait in their pools once those that may be arriving
    have come: what `bound_pools` is to be told."""
    user_ids = sorted(arriving)
    params = {
        "user_ids": literals.texts(user_ids),
        "counts": literals.numbers(map(arriving.__getitem__, user_ids)),
    }
    (row,) = await work.rows(QUERIES.claim_pools, params)
    if row.user_ids is None:
        return {}
    return dict(zip(row.user_ids, row.pool_bounds, strict=True))


async def stored_digests(work: UnitOfWork, keys: Collection[EventKey]) -> dict[EventKey, bytes]:
    """Digests of those events that were accepted before."""
    if not keys:
        return {}
    rows = await work.rows(QUERIES.stored_digests, keys_of(keys))
    return {(row.user_id, row.event_id): bytes(row.digest) for row in rows}


async def mergeable(work: UnitOfWork, keys: Collection[Key], now: datetime) -> dict[Key, Waiting]:
    """For each aggregation key the waiting event accepted last, where there is one; locked, so that
    it can't end before what is merged into it is stored."""
    if not keys:
        return {}
    users, types, names = zip(*keys, strict=True)
    params = {
        "user_ids": literals.texts(users),
        "event_types": literals.texts(types),
        "keys": literals.texts(names),
        "now": now,
    }
    found = [
        Waiting(decode_event(row.body, row.actor_sketch), row.accept_time, row.held_until)
        for row in await work.rows(QUERIES.mergeable_events, params)
    ]
    return {
        (kept.event.user_id, kept.event.event_type, kept.event.aggregation_key): kept
        for kept in found
    }


async def past_contents(
    work: UnitOfWork, since: Mapping[tuple[str, str], datetime], now: datetime
) -> dict[tuple[str, str], list[Content]]:
    """For users and event types the contents of what waits, or was sent since a time; the latest
    `MOST_PAST` of each."""
    if not since:
        return {}
    users, types = zip(*since, strict=True)
    params = {
        "user_ids": literals.texts(users),
        "event_types": literals.texts(types),
        "since": literals.times(since.values()),
        "count": MOST_PAST,
        "now": now,
    }
    past: dict[tuple[str, str], list[Content]] = {}
    for row in await work.rows(QUERIES.past_contents, params):
        content = Content.unpacked(row.item_ids, row.content)
        past.setdefault((row.user_id, row.event_type), []).append(content)
    return past


async def insert(work: UnitOfWork, new: Sequence[NewEvent], now: datetime) -> bool:
    """Store new events; immediate and scheduled ones enter the ready queue. Stores none and returns
    False when one of the keys is known. Their users are locked."""
    if not new:
        return True
    if not await work.copy_new("events", COLUMNS, _rows(new, now)):
        return False
    queued = [entry.event for entry in new if entry.route is not Route.RANKED]
    if queued:
        ready = keys_of([(event.user_id, event.event_id) for event in queued]) | {
            "available_times": literals.times(event.deliver_time or now for event in queued),
            "expire_times": literals.times(event.expire_time for event in queued),
        }
        await work.execute(QUERIES.queue_ready, ready)
    return True


async def grow(
    work: UnitOfWork, events: Sequence[Event], ready_times: Mapping[EventKey, datetime]
) -> None:
    """Store the new content of waiting events; those with a time are digests ready from then on."""
    if events:
        params = keys_of([(event.user_id, event.event_id) for event in events]) | {
            "bodies": literals.binaries(encode_event(event) for event in events),
            "item_ids": literals.texts(literals.texts(event.item_ids) for event in events),
            "scores": literals.numbers(event.source_score for event in events),
            "expire_times": literals.times(event.expire_time for event in events),
            "actor_sketches": literals.binaries(pack(event.actor_sketch) for event in events),
            "ready_times": literals.times(
                ready_times.get((event.user_id, event.event_id)) for event in events
            ),
        }
        await work.execute(QUERIES.grow_events, params)


async def bound_pools(
    work: UnitOfWork,
    bounds: Mapping[str, int],
    arriving: Mapping[str, int],
    arrived: Mapping[str, int],
    pool_size: int,
    now: datetime,
) -> tuple[dict[EventKey, End], list[Statement]]:
    """Keep claimed pools within their size; returns the events that had to leave, evicted or, where
    they had expired, as that, and the statement that stores the bounds which are not as claimed.

    `bounds` is what `claim_pools` answered to `arriving`; `arrived` came of these. Ends don't lower
    the stored bound, so only where it passes the size are events counted, and the bound made exact
    again; `count_pools` does so for all now and then.
    """
    settled: dict[str, int] = {}
    if arrived != arriving:
        settled = {
            user: bound - arriving[user] + arrived.get(user, 0)
            for user, bound in bounds.items()
            if arrived.get(user, 0) != arriving[user]
        }
    evicted: dict[EventKey, End] = {}
    doubtful = [user for user in arrived if settled.get(user, bounds[user]) > pool_size]
    if doubtful:
        rows = await work.rows(QUERIES.count_pools, {"user_ids": doubtful})
        counts = {row.user_id: row.waiting for row in rows}
        settled |= {user: min(counts.get(user, 0), pool_size) for user in doubtful}
        overfull = [user for user, count in counts.items() if count > pool_size]
        if overfull:
            params = {"user_ids": overfull, "pool_size": pool_size, "now": now}
            rows = await work.rows(QUERIES.evict_events, params)
            evicted = {(row.user_id, row.event_id): End(row.end_kind) for row in rows}
    if not settled:
        return evicted, []
    params = {
        "user_ids": literals.texts(settled),
        "pool_bounds": literals.numbers(settled.values()),
    }
    return evicted, [(QUERIES.settle_pool_bounds, params)]


async def count_pools(work: UnitOfWork, after: str, count: int) -> str:
    """Make the stored bounds of `count` users' pools exact, in the order of ids after one; returns
    the last of these users, and an empty id when there are none."""
    (locked,) = await work.rows(QUERIES.lock_pools, {"after": after, "count": count})
    if locked.last is None:
        return ""
    await work.execute(QUERIES.lower_pool_bounds, {"after": after, "last": locked.last})
    return str(locked.last)


def announcement(user_ids: Set[str], now: datetime) -> list[Statement]:
    """What tells the reader of arrivals about these users, each once."""
    if not user_ids:
        return []
    return [(QUERIES.insert_arrivals, {"user_ids": literals.texts(sorted(user_ids)), "now": now})]


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
    params = keys_of(first) | {
        "ends": literals.numbers(int(ending.end) for ending in first.values()),
        "reasons": literals.texts(ending.reason for ending in first.values()),
        "decision_ids": literals.texts(ending.decision_id for ending in first.values()),
        "routes": [int(route) for route in routes],
        "now": now,
    }
    ended = _pairs(await work.rows(QUERIES.end_events, params))
    if ended and any(route is not Route.RANKED for route in routes):
        await work.execute(QUERIES.leave_ready, keys_of(ended))
    return ended


async def give_back(work: UnitOfWork, until: Mapping[EventKey, datetime]) -> None:
    """Give leased events back to the ready queue, each not before its time."""
    if until:
        params = keys_of(until) | {"available_times": literals.times(until.values())}
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


def keys_of(keys: Iterable[EventKey]) -> dict[str, object]:
    """Parameters `user_ids` and `event_ids` of a statement on these events."""
    pairs = list(keys)
    return {
        "user_ids": literals.texts(user for user, _ in pairs),
        "event_ids": literals.texts(event for _, event in pairs),
    }


def _rows(new: Sequence[NewEvent], now: datetime) -> bytes:
    """Events in COPY's binary format."""
    events, routes, digests, bodies, *fates = zip(*new, strict=True)
    (
        users,
        ids,
        types,
        _,
        expiries,
        items,
        _,
        _,
        keys,
        _,
        sources,
        campaigns,
        scores,
        _,
        sketches,
    ) = zip(*events, strict=True)
    expire = map(binary_rows.microseconds, expiries)
    accepted = repeat(binary_rows.microseconds(now))
    numbers = map(
        _NUMBERS, repeat(2), routes, repeat(8), scores, repeat(8), expire, repeat(8), accepted
    )
    plain = not any(map(any, fates)) and not any(sketches)
    return binary_rows.rows(
        len(COLUMNS),
        [
            binary_rows.texts(users),
            binary_rows.texts(ids),
            list(map(_names, types, sources, campaigns, keys)),
            list(map(_items, items)),
            list(numbers),
            binary_rows.binaries(digests),
            binary_rows.binaries(bodies),
            [_PLAIN_FATE] * len(new) if plain else [_fate(entry, now) for entry in new],
        ],
    )


_items = lru_cache(maxsize=16384)(binary_rows.text_array)
"""Many events are about the same."""


@lru_cache(maxsize=4096)
def _names(*values: str) -> bytes:
    """Fields that a publisher's events have in common."""
    return b"".join(binary_rows.texts(values))


def _fate(entry: NewEvent, now: datetime) -> bytes:
    """The columns from `end_kind` on."""
    end, ready = _end_of(entry), entry.ready_time
    content = None if entry.content is None else entry.content.packed()
    merged, sketch, reason = binary_rows.binaries(
        [entry.merged_into.encode(), pack(entry.event.actor_sketch), entry.suppressed.encode()]
    )
    return b"".join(
        [
            binary_rows.smallint(end),
            binary_rows.time(None if end is None else now),
            merged,
            binary_rows.flag(ready is not None and ready > now),
            binary_rows.time(ready),
            sketch,
            reason,
            binary_rows.NULL if content is None else binary_rows.binaries([content])[0],
        ]
    )


def _end_of(entry: NewEvent) -> int | None:
    if entry.merged_into:
        return int(End.MERGED)
    return int(End.SUPPRESSED) if entry.suppressed else None
