"""Keeps the ranker at the present: items, feed, the promoted model and the shadow."""

from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import TypeVar

import grpc

from services.ranker.catalogue import Catalogue
from services.ranker.feed import FeedFollower
from services.ranker.promotion import Models
from services.ranker.rank_log import RankLog
from services.ranker.shadowing import Shadowing
from services.runtime import metrics
from services.runtime.logs import Logger
from services.runtime.partitions import first_kept_day

Result = TypeVar("Result")


class Following:
    """What runs beside the calls."""

    def __init__(
        self,
        catalogue: Catalogue,
        feed: FeedFollower,
        models: Models,
        shadowing: Shadowing,
        log: RankLog,
        logger: Logger,
    ) -> None:
        self._catalogue = catalogue
        self._feed = feed
        self._models = models
        self._shadowing = shadowing
        self._log = log
        self._logger = logger
        self._behind = metrics.counter(
            "ranker", "stale_calls", "", "Rank calls answered without having read the feed."
        )

    async def follow_items(self, _now: datetime) -> None:
        """Read candidate's item changes."""
        await self._read("candidate", self._catalogue.follow())
        await self._catalogue.refresh()

    async def follow_feed(self, _now: datetime) -> None:
        """Read policy's feed, and take over the item history it changed."""
        await self._read("policy", self._feed.catch_up())
        await self._catalogue.refresh()

    async def follow_models(self, _now: datetime) -> None:
        """Serve the version that is promoted now, and have that one shadow that is named now."""
        await self._models.follow()
        await self._shadowing.follow()

    async def catch_up(self) -> None:
        """Read the feed before a call is answered (simulated time leaves no time between calls).

        When policy can't be reached the call is answered from what is known, and counted.
        """
        applied = await self._read("policy", self._feed.catch_up())
        if applied is None:
            self._behind.inc()
        elif applied:
            await self._catalogue.refresh()

    async def _read(self, peer: str, reading: Awaitable[Result]) -> Result | None:
        """What reading a peer's log gave; None when the peer can't be reached."""
        try:
            return await reading
        except grpc.aio.AioRpcError as error:
            self._logger.warning("a log was not read on", peer=peer, status=error.code().name)
            return None

    async def clean(self, now: datetime, retention: timedelta) -> None:
        """Drop days past their retention."""
        await self._log.drop_before(first_kept_day(now, retention))
