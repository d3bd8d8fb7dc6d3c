"""What the pacer does with the event pool and the ready queue, and what keeps them small."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row

from services.candidate import catalogue_store, event_store, withdrawals
from services.candidate.cursors import Position
from services.candidate.event_store import QUERIES, Ending, EventKey
from services.candidate.events import End, Route
from services.candidate.ordering import ItemRanker
from services.candidate.withdrawals import Decided
from services.runtime import metrics
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound, OutOfRange, ResourceExhausted

MOST_BYTES = 8 * 2**20
RANKED = (Route.RANKED,)
LAST = datetime.max.replace(tzinfo=UTC)

CATALOGUE = catalogue_store.QUERIES


@dataclass(frozen=True, slots=True)
class Body:
    """A stored event."""

    user_id: str
    event_type: str
    body: bytes
    item_ids: Sequence[str] | None = None
    """Its items best first, where they stand otherwise in the body."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A page of arrivals."""

    user_ids: Sequence[str]
    position: Position
    more: bool


class Pool:
    """Reads, leases and ends of events."""

    def __init__(self, database: Database, ranker: ItemRanker) -> None:
        self._database = database
        self._ranker = ranker
        self._ended = metrics.counter(
            "candidate", "events_ended", "", "Events that ended, by end.", ["end"]
        )
        self._digests = metrics.counter(
            "candidate", "digests_ready", "", "Held digests whose time came."
        )

    async def arrivals(self, after: Position, count: int) -> Arrivals:
        """Users into whose pool something came, each once, in commit order. Raises OutOfRange for
        a position that does not exist yet."""
        params = {"xid": str(after.xid), "seq": after.seq, "count": count}
        async with self._database.read() as work:
            await check_position(work, after)
            rows = await work.rows(QUERIES.read_arrivals, params)
        position = Position(int(rows[-1].xid), rows[-1].seq) if rows else after
        users = list(dict.fromkeys(row.user_id for row in rows if row.user_id is not None))
        return Arrivals(users, position, len(rows) == count)

    async def read(self, user_ids: Collection[str], per_user: int, now: datetime) -> list[Body]:
        """Waiting, unexpired events by user, most promising first; those of several items without
        deleted ones, and best first. Raises ResourceExhausted when they are more than one answer
        may hold."""
        params = {"user_ids": list(user_ids), "per_user": per_user, "now": now}
        async with self._database.read() as work:
            rows = await work.rows(QUERIES.read_pool, params)
            deleted = await _deleted_of_several(work, rows)
        if sum(len(row.body) for row in rows) > MOST_BYTES:
            raise ResourceExhausted(
                "the pools are larger than an answer; ask for fewer users or events per user",
                reason="RESPONSE_TOO_LARGE",
            )
        return await self._with_items(rows, deleted)

    async def _with_items(self, rows: Sequence[Row[Any]], deleted: Collection[str]) -> list[Body]:
        """Events with their live items in order; without those whose items are all deleted."""
        live = {
            (row.user_id, row.event_id): tuple(i for i in row.item_ids if i not in deleted)
            for row in rows
            if len(row.item_ids) > 1
        }
        about = [(user, items) for (user, _), items in live.items()]
        found = await self._ranker.rank(about)
        ranked = {key: one.item_ids for key, one in zip(live, found, strict=True)}
        return [
            Body(row.user_id, row.event_type, row.body, ranked.get((row.user_id, row.event_id)))
            for row in rows
            if live.get((row.user_id, row.event_id)) != ()
        ]

    async def settle(
        self, endings: Sequence[Ending], routes: Collection[Route], now: datetime
    ) -> int:
        """Record ends; returns how many events ended by this call."""
        async with self._database.unit_of_work() as work:
            ended = await event_store.end(work, endings, routes, now)
            await work.commit()
        first = {(ending.user_id, ending.event_id): ending.end for ending in reversed(endings)}
        for key in ended:
            self._ended.labels(first[key].name).inc()
        return len(ended)

    async def settle_ready(
        self, endings: Sequence[Ending], back: Mapping[EventKey, datetime], now: datetime
    ) -> int:
        """Record ends of ready events and give others back, not before their times."""
        async with self._database.unit_of_work() as work:
            ended = await event_store.end(work, endings, event_store.NOT_RANKED, now)
            await event_store.give_back(work, back)
            await work.commit()
        return len(ended)

    async def lease(self, owner: str, count: int, duration: timedelta, now: datetime) -> list[Body]:
        """Lease due events, oldest first, those of several items as `read` gives them; what does
        not fit into an answer is not leased."""
        params = {"owner": owner, "count": count, "now": now, "lease_until": now + duration}
        async with self._database.unit_of_work() as work:
            rows = await work.rows(QUERIES.lease_ready, params)
            fitting = _fitting(rows)
            too_much = {(row.user_id, row.event_id): now for row in rows[fitting:]}
            await event_store.give_back(work, too_much)
            deleted = await _deleted_of_several(work, rows[:fitting])
            await work.commit()
        return await self._with_items(rows[:fitting], deleted)

    async def cancel(
        self,
        keys: Collection[EventKey],
        item_ids: Collection[str],
        campaign_ids: Collection[str],
        now: datetime,
    ) -> int:
        """Take events back; returns how many waiting ones this call cancelled."""
        async with self._database.unit_of_work() as work:
            cancelled = await withdrawals.withdraw(
                work,
                keys=keys,
                item_ids=item_ids,
                campaign_ids=campaign_ids,
                reason="CANCELLED",
                now=now,
            )
            await work.commit()
        self._ended.labels(End.CANCELLED.name).inc(len(cancelled))
        return len(cancelled)

    async def withdrawn(self, decided: Collection[Decided]) -> list[EventKey]:
        """Those of the events that must not be handed to a channel any more."""
        async with self._database.read() as work:
            return await withdrawals.withdrawn(work, decided)

    async def of_user(
        self, user_id: str, event_id: str, before: tuple[datetime, str] | None, count: int
    ) -> list[Row[Any]]:
        """Events of a user, newest first, before a position. Raises NotFound for a user that is
        neither stored nor has events."""
        time, name = before or (LAST, "")
        params = {"user_id": user_id, "event_id": event_id, "count": count}
        async with self._database.read() as work:
            page = params | {"before_time": time, "before_id": name}
            rows = await work.rows(QUERIES.list_user_events, page)
            if not rows and before is None:
                known = await work.rows(CATALOGUE.known_users, {"user_ids": [user_id]})
                if not known:
                    raise unknown_user(user_id)
        return rows

    async def announce_digests(self, count: int, now: datetime) -> None:
        """Tell the reader of arrivals about digests that got ready, `count` in a transaction."""
        while True:
            async with self._database.unit_of_work() as work:
                (row,) = await work.rows(QUERIES.announce_digests, {"count": count, "now": now})
                await work.commit()
            self._digests.inc(row.digests)
            if row.digests < count:
                return

    async def expire(self, count: int, now: datetime) -> None:
        """Record passed expiries, `count` in a transaction."""
        while True:
            async with self._database.unit_of_work() as work:
                rows = await work.rows(QUERIES.expired_events, {"count": count, "now": now})
                endings = [
                    Ending(row.user_id, row.event_id, End.EXPIRED, "EXPIRED") for row in rows
                ]
                await event_store.end(work, endings, tuple(Route), now)
                await work.commit()
            self._ended.labels(End.EXPIRED.name).inc(len(rows))
            if len(rows) < count:
                return


async def check_position(work: UnitOfWork, position: Position) -> None:
    """Raises OutOfRange for a position after all transactions so far."""
    (row,) = await work.rows(QUERIES.next_transaction)
    if position.xid >= int(row[0]):
        raise OutOfRange("the cursor lies in the future; read from the start", reason="CURSOR")


def unknown_user(user_id: str) -> NotFound:
    """The error for a user that is not stored."""
    return NotFound(f"user {user_id!r} is unknown", reason="UNKNOWN_USER")


async def _deleted_of_several(work: UnitOfWork, rows: Sequence[Row[Any]]) -> set[str]:
    """The deleted items of events of several."""
    named = {item for row in rows if len(row.item_ids) > 1 for item in row.item_ids}
    return await catalogue_store.deleted_items(work, named)


def _fitting(rows: Sequence[Row[Any]]) -> int:
    total = 0
    for place, row in enumerate(rows):
        total += len(row.body)
        if total > MOST_BYTES and place > 0:
            return place
    return len(rows)
