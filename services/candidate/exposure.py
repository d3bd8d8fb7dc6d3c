"""How sends were shared out among the users. Formulas in plain values, figures from Postgres."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.candidate.rotation import QUERIES
from services.runtime.database import Database

DEFAULT_DAYS = 7
FRESHNESS = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Exposure:
    """How the sends of some days were shared out."""

    days: int
    user_count: int
    reached_users: int
    sends: int
    gini: float
    """Over all users, in [0, 1)."""
    report_time: datetime

    @property
    def reached_share(self) -> float:
        """Share of the users with at least one send."""
        return self.reached_users / self.user_count if self.user_count else 0.0


def gini(users_by_sends: Mapping[int, int], user_count: int) -> float:
    """Gini coefficient of the sends over `user_count` users, of whom those not named got none.

    Σᵢ (2i − n − 1) xᵢ / (n Σ xᵢ) with x ascending, i from 1 (Gini 1912, in Dorfman's form); 0
    without sends.
    """
    total = sum(sends * users for sends, users in users_by_sends.items())
    if not total:
        return 0.0
    before = user_count - sum(users_by_sends.values())
    weighted = 0
    for sends in sorted(users_by_sends):
        users = users_by_sends[sends]
        weighted += sends * users * (2 * before + users - user_count)
        before += users
    return weighted / (user_count * total)


class Exposures:
    """Reports, each kept for 60 s."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = asyncio.Lock()
        self._kept: dict[int, Exposure] = {}

    async def report(self, days: int, now: datetime) -> Exposure:
        """The report of the last `days` days, at most 60 s old."""
        async with self._lock:
            kept = self._kept.get(days)
            if kept is None or not timedelta(0) <= now - kept.report_time <= FRESHNESS:
                kept = self._kept[days] = await self._read(days, now)
            return kept

    async def _read(self, days: int, now: datetime) -> Exposure:
        params = {"since": now - timedelta(days=days), "until": now}
        async with self._database.read() as work:
            rows = await work.rows(QUERIES.sends_per_user, params)
            (counted,) = await work.rows(QUERIES.count_users)
        by_sends = {row.sends: row.users for row in rows}
        return Exposure(
            days=days,
            user_count=counted.users,
            reached_users=sum(by_sends.values()),
            sends=sum(sends * count for sends, count in by_sends.items()),
            gini=gini(by_sends, counted.users),
            report_time=now,
        )
