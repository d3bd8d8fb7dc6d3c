"""Bounded deletion of what is beyond its retention, and counting how full pools are."""

import asyncio
from datetime import datetime, timedelta
from time import monotonic

from sqlalchemy import TextClause

from services.candidate import event_store
from services.candidate.admission import LONGEST_LIFE
from services.candidate.catalogue_store import QUERIES as CATALOGUE
from services.candidate.event_store import QUERIES as EVENTS
from services.candidate.generation_store import QUERIES as WORK
from services.candidate.rotation import QUERIES as GIVEN
from services.candidate.settings import CandidateSettings
from services.runtime.database import Database

KEEP_MARKS = timedelta(days=7)
"""No run of a day that is so long ago begins."""
KEEP_WITHDRAWALS = LONGEST_LIFE + timedelta(days=1)
"""By then all events that were accepted before have expired."""


class Upkeep:
    """Deletes old rows and counts pools, a bounded number in a transaction."""

    def __init__(self, database: Database, settings: CandidateSettings) -> None:
        self._database = database
        self._batch = settings.cleanup_batch
        self._retention = settings.retention
        self._arrivals = settings.arrival_retention
        self._recommendations = settings.recommendation_retention

    async def run(self, now: datetime) -> None:
        """Delete events that ended, answers given and relations removed before the retention; old
        arrivals, withdrawals and recommendations; marks of daily runs, and what teams used, a week
        after their day; the runs after the retention. Then make the bounds of pools exact, which
        ends don't lower: budgets rest on them."""
        await self._delete(EVENTS.delete_ended_events, now - self._retention)
        await self._delete(EVENTS.delete_old_withdrawals, now - KEEP_WITHDRAWALS)
        await self._delete(EVENTS.delete_old_requests, now - self._retention)
        await self._delete(EVENTS.delete_old_arrivals, now - self._arrivals)
        await self._delete(GIVEN.delete_old_recommendations, now - self._recommendations)
        await self._delete(WORK.delete_old_generated, now - KEEP_MARKS)
        await self._delete(WORK.delete_old_runs, now - max(self._retention, KEEP_MARKS))
        await self._delete(WORK.delete_old_usage, now - KEEP_MARKS)
        await self._delete(CATALOGUE.delete_old_removed_relations, now - self._retention)
        async with self._database.unit_of_work() as work:
            await work.execute(EVENTS.delete_old_erasures, {"before": now - self._retention})
            await work.commit()
        await self.count_pools()

    async def count_pools(self) -> None:
        """Make all bounds of pools exact, with rests for half of the time."""
        after = ""
        while True:
            start = monotonic()
            async with self._database.unit_of_work() as work:
                after = await event_store.count_pools(work, after, self._batch)
                await work.commit()
            if not after:
                return
            await asyncio.sleep(monotonic() - start)

    async def _delete(self, query: TextClause, before: datetime) -> None:
        while True:
            async with self._database.unit_of_work() as work:
                result = await work.execute(query, {"before": before, "count": self._batch})
                await work.commit()
            if result.rowcount < self._batch:
                return
