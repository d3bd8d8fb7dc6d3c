"""Slots and the cursor behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.pacer.slot_times import SlotKey
from services.pacer.store.queries import QUERIES
from services.runtime.database import Database, UnitOfWork

_RELEASE_TIMEOUT = timedelta(seconds=5)
_PRUNED_AT_ONCE = 10_000
BEYOND = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ClosedSlot:
    """A leased slot that is over, and the slots its user may wait for next.

    `decision_id` is empty when nothing was decided. `keep`: something stays in the pool, so open
    the first of `next_offers` that has not been opened before.
    """

    key: SlotKey
    decision_id: str
    keep: bool
    next_offers: Sequence[SlotKey]


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """A slot as it stands; `process_time` is None while it waits."""

    user_id: str
    slot_id: str
    slot_time: datetime
    process_time: datetime | None
    decision_id: str


@dataclass(frozen=True, slots=True)
class SlotBacklog:
    """What waits: due and free, leased, and since when the oldest is due."""

    due_count: int
    leased_count: int
    oldest_time: datetime | None


class SlotStore:
    """Slots in Postgres. Every change names its lease, so a pacer that was too slow changes
    nothing. Rows are locked in user order; leasing skips what is locked."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def cursor(self) -> str:
        """Up to where arrivals have become slots; empty at the start."""
        async with self._database.read() as work:
            return str((await work.rows(QUERIES.read_cursor))[0].cursor)

    async def add_arrivals(
        self, before: str, after: str, offers: Mapping[str, Sequence[SlotKey]]
    ) -> bool:
        """Make users wait and move the cursor, in one transaction.

        `offers` has the possible slots per user who arrived. A user who waits already is told that
        something came. False, and nothing changes, when another pacer moved the cursor first.
        """
        async with self._database.unit_of_work() as work:
            moved = await work.rows(QUERIES.move_cursor, {"before": before, "after": after})
            if not moved:
                return False
            flagged = await work.rows(QUERIES.flag_waiting, {"user_ids": list(offers)})
            waiting = {row.user_id for row in flagged}
            await _open(
                work, [o for user, given in offers.items() if user not in waiting for o in given]
            )
            await work.commit()
            return True

    async def lease_due(
        self, owner: str, now: datetime, lease: timedelta, limit: int
    ) -> list[SlotKey]:
        """Lease due slots, oldest first."""
        return await self._lease("lease_due", owner, now, lease, limit, {})

    async def lease_users(
        self, owner: str, now: datetime, lease: timedelta, user_ids: Sequence[str]
    ) -> list[SlotKey]:
        """Lease the waiting slots of these users, due or not."""
        users = {"user_ids": list(user_ids)}
        return await self._lease("lease_users", owner, now, lease, len(user_ids), users)

    async def _lease(
        self,
        query: str,
        owner: str,
        now: datetime,
        lease: timedelta,
        limit: int,
        more: Mapping[str, object],
    ) -> list[SlotKey]:
        given = {"owner": owner, "now": now, "until": now + lease, "limit": limit, **more}
        async with self._database.unit_of_work() as work:
            rows = await work.rows(getattr(QUERIES, query), given)
            await work.commit()
        return sorted(
            (SlotKey(row.user_id, row.slot_id, row.slot_time) for row in rows),
            key=lambda slot: (slot.time, slot.user_id),
        )

    async def release(self, owner: str, user_ids: Sequence[str]) -> None:
        """Give leased slots back as they were: they stay due."""
        async with self._database.unit_of_work(timeout=_RELEASE_TIMEOUT) as work:
            await work.execute(QUERIES.release_slots, {"owner": owner, "user_ids": list(user_ids)})
            await work.commit()

    async def close(self, owner: str, now: datetime, slots: Sequence[ClosedSlot]) -> int:
        """Close leased slots and open the next ones, in one transaction; returns how many closed.

        A next slot is opened where something stays, and where something came while the slot was
        held: the reader of the pool may have missed it.
        """
        async with self._database.unit_of_work() as work:
            rows = await work.rows(
                QUERIES.close_slots,
                {
                    "owner": owner,
                    "now": now,
                    "user_ids": [slot.key.user_id for slot in slots],
                    "slot_ids": [slot.key.slot_id for slot in slots],
                    "decision_ids": [slot.decision_id for slot in slots],
                },
            )
            arrived = {row.user_id: row.arrived for row in rows}
            await _open(
                work,
                [
                    offer
                    for slot in slots
                    if slot.key.user_id in arrived and (slot.keep or arrived[slot.key.user_id])
                    for offer in slot.next_offers
                ],
            )
            await work.commit()
        return len(rows)

    async def page(
        self, user_id: str, before: tuple[datetime, str], limit: int
    ) -> list[SlotRecord]:
        """A user's slots before (time, id), newest first."""
        given = {"user_id": user_id, "before_time": before[0], "before_id": before[1]}
        async with self._database.read() as work:
            rows = await work.rows(QUERIES.list_slots, given | {"limit": limit})
        return [
            SlotRecord(row.user_id, row.slot_id, row.slot_time, row.process_time, row.decision_id)
            for row in rows
        ]

    async def backlog(self, now: datetime) -> SlotBacklog:
        """What waits at `now`."""
        async with self._database.read() as work:
            (row,) = await work.rows(QUERIES.slot_backlog, {"now": now})
        return SlotBacklog(row.due_count, row.leased_count, row.oldest_time)

    async def prune(self, before: datetime) -> int:
        """Remove slots closed before; returns how many."""
        removed = 0
        while True:
            async with self._database.unit_of_work() as work:
                result = await work.execute(
                    QUERIES.prune_slots, {"before": before, "limit": _PRUNED_AT_ONCE}
                )
                await work.commit()
            removed += result.rowcount
            if result.rowcount < _PRUNED_AT_ONCE:
                return removed


async def _open(work: UnitOfWork, offers: Sequence[SlotKey]) -> None:
    if offers:
        await work.execute(
            QUERIES.open_slots,
            {
                "user_ids": [offer.user_id for offer in offers],
                "slot_ids": [offer.slot_id for offer in offers],
                "slot_times": [offer.time for offer in offers],
            },
        )
