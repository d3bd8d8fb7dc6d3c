"""Attempts to hand deliveries over."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from services.pacer.store.queries import QUERIES
from services.runtime.database import Database
from services.runtime.partitions import drop_partitions_before, ensure_day_partitions

_TABLE = "attempts"


@dataclass(frozen=True, slots=True)
class MadeAttempt:
    """One attempt that was just made; `error` is empty when it was delivered."""

    delivery_id: str
    user_id: str
    adapter: str
    delivered: bool
    error: str


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt as it is kept, numbered from 1."""

    delivery_id: str
    attempt: int
    adapter: str
    attempt_time: datetime
    delivered: bool
    error: str


class AttemptStore:
    """Attempts in Postgres, by the day in the delivery's id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def counts(self, delivery_ids: Iterable[str]) -> dict[str, int]:
        """How many attempts each delivery has had; those without any are left out."""
        async with self._database.read() as work:
            rows = await work.rows(QUERIES.count_attempts, _keys(list(delivery_ids)))
        return {row.delivery_id: row.made for row in rows}

    async def add(self, attempts: Sequence[MadeAttempt], now: datetime) -> None:
        """Record attempts, numbered on from those there are. One per delivery in a call."""
        days = [day_of(made.delivery_id) or now.date() for made in attempts]
        async with self._database.unit_of_work() as work:
            await ensure_day_partitions(work, _TABLE, set(days))
            await work.execute(
                QUERIES.add_attempts,
                {
                    "days": days,
                    "delivery_ids": [made.delivery_id for made in attempts],
                    "user_ids": [made.user_id for made in attempts],
                    "adapters": [made.adapter for made in attempts],
                    "delivered": [made.delivered for made in attempts],
                    "errors": [made.error for made in attempts],
                    "now": now,
                },
            )
            await work.commit()

    async def find(self, delivery_ids: Iterable[str]) -> list[AttemptRecord]:
        """Attempts of these deliveries, by delivery and number."""
        async with self._database.read() as work:
            rows = await work.rows(QUERIES.list_attempts, _keys(list(delivery_ids)))
        return [
            AttemptRecord(
                row.delivery_id,
                row.attempt,
                row.adapter,
                row.attempt_time,
                row.delivered,
                row.error,
            )
            for row in rows
        ]

    async def prune(self, before: date) -> None:
        """Drop the attempts of deliveries of earlier days."""
        async with self._database.unit_of_work() as work:
            await drop_partitions_before(work, _TABLE, before)
            await work.commit()


def day_of(delivery_id: str) -> date | None:
    """The day that begins a delivery's id, e.g. `20260105.`; None when it begins otherwise."""
    digits = delivery_id.partition(".")[0]
    if len(digits) != 8 or not (digits.isascii() and digits.isdigit()):
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


def _keys(delivery_ids: Sequence[str]) -> dict[str, object]:
    days = {day for delivery_id in delivery_ids if (day := day_of(delivery_id))}
    return {"days": sorted(days), "delivery_ids": list(delivery_ids)}
