"""Keeps the ranker at the present: items, feed and the promoted model."""

from datetime import datetime, timedelta

import grpc

from services.ranker.catalogue import Catalogue
from services.ranker.feed import FeedFollower
from services.ranker.models import Models
from services.ranker.rank_log import RankLog, retention_start
from services.runtime import metrics
from services.runtime.logs import Logger


class Following:
    """What runs beside the calls."""

    def __init__(
        self, catalogue: Catalogue, feed: FeedFollower, models: Models, log: RankLog, logger: Logger
    ) -> None:
        self._catalogue = catalogue
        self._feed = feed
        self._models = models
        self._log = log
        self._logger = logger
        self._behind = metrics.counter(
            "ranker", "stale_calls", "", "Rank calls answered without having read the feed."
        )

    async def follow_items(self, _now: datetime) -> None:
        """Read candidate's item changes."""
        await self._catalogue.follow()
        await self._catalogue.refresh()

    async def follow_feed(self, _now: datetime) -> None:
        """Read policy's feed, and take over the item history it changed."""
        await self._feed.catch_up()
        await self._catalogue.refresh()

    async def follow_models(self, _now: datetime) -> None:
        """Serve the version that is promoted now."""
        await self._models.follow()

    async def catch_up(self) -> None:
        """Read the feed before a call is answered (simulated time leaves no time between calls).

        When policy can't be reached the call is answered from what is known, and counted.
        """
        try:
            if await self._feed.catch_up():
                await self._catalogue.refresh()
        except grpc.aio.AioRpcError as error:
            self._behind.inc()
            self._logger.warning("feed not read before the call", status=error.code().name)

    async def clean(self, now: datetime, retention: timedelta) -> None:
        """Drop days past their retention."""
        await self._log.drop_before(retention_start(now, retention))
