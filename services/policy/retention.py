"""Drops what is past its retention: days of logs as a whole, other rows in bounded batches."""

from datetime import date, datetime, timedelta
from pathlib import Path

from services.policy import feed_store
from services.policy.settings import PolicySettings
from services.runtime.database import Database, load_queries
from services.runtime.partitions import drop_days_before, first_kept_day

_queries = load_queries(Path(__file__).with_name("retention.sql"))

DECISION_TABLES = ("decisions", "outbox", "engagements", "volume")
CONTROL_TABLES = ("offers", "controller_steps")


class Retention:
    """What is kept how long; see the settings for why."""

    def __init__(self, database: Database, settings: PolicySettings) -> None:
        self._database = database
        self._settings = settings

    async def clean(self, now: datetime) -> None:
        """Drop what is past its retention at `now`. Safe to repeat and to run beside another."""
        settings = self._settings
        decisions = await self._first_day_of_decisions(now)
        controls = first_kept_day(now, settings.control_retention)
        sessions = first_kept_day(now, settings.reports.session_age)
        await drop_days_before(self._database, DECISION_TABLES, decisions)
        await drop_days_before(self._database, CONTROL_TABLES, controls)
        await drop_days_before(self._database, ("sessions",), sessions)
        async with self._database.unit_of_work() as work:
            await feed_store.drop_before(work, first_kept_day(now, settings.feed_retention))
            await work.commit()
        await self._forget_events(first_kept_day(now, settings.event_retention))

    async def _first_day_of_decisions(self, now: datetime) -> date:
        """Invariant 7: an open delivery keeps its day, and the day before, on which its volume may
        be booked."""
        first = first_kept_day(now, self._settings.decision_retention)
        async with self._database.read() as work:
            (row,) = await work.rows(_queries.oldest_open_day)
        return first if row.day is None else min(first, row.day - timedelta(days=1))

    async def _forget_events(self, day: date) -> None:
        size = self._settings.clean_batch
        deleted = size
        while deleted == size:
            async with self._database.unit_of_work() as work:
                asked = {"day": day, "count": size}
                result = await work.execute(_queries.delete_old_decided_events, asked)
                await work.commit()
            deleted = result.rowcount
