"""Reads on in the logs of the other services: content from candidate, outcomes from policy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import grpc
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc, catalogue_pb2
from heliograph.policy.v1alpha1 import feed_pb2, policy_pb2_grpc
from heliograph.type.v1alpha1 import notification_pb2

from services.copygen import store
from services.copygen.store import queries
from services.runtime import metrics
from services.runtime.database import Database, UnitOfWork
from services.runtime.logs import Logger
from services.runtime.partitions import ensure_day_partitions

FEED_BATCH = 5000
_ENGAGED = (notification_pb2.ENGAGEMENT_KIND_OPEN, notification_pb2.ENGAGEMENT_KIND_CLICK)
_DISMISSED = (notification_pb2.ENGAGEMENT_KIND_DISMISS,)
_LEFT = (
    notification_pb2.ENGAGEMENT_KIND_UNSUBSCRIBE,
    notification_pb2.ENGAGEMENT_KIND_DISABLE,
)


class ContentFollower:
    """Keeps copies of items and event types up to date with candidate."""

    def __init__(
        self,
        database: Database,
        candidate: candidate_pb2_grpc.CandidateServiceAsyncStub,
        log: Logger,
    ) -> None:
        self._database = database
        self._candidate = candidate
        self._log = log

    async def reached(self) -> bool:
        """Catch up, if candidate can be reached; whether it could."""
        try:
            await self.catch_up()
        except grpc.aio.AioRpcError as error:
            self._log.warning("candidate's items were not read on", status=error.code().name)
            return False
        return True

    async def catch_up(self) -> None:
        """Apply all changes since the cursor; each batch commits with its cursor."""
        async with self._database.read() as work:
            rows = await work.rows(queries.read_cursor, {"log": "items"})
        cursor = rows[0].cursor if rows else ""
        request = catalogue_pb2.WatchItemsRequest(cursor=cursor)
        async for batch in self._candidate.WatchItems(request):
            async with self._database.unit_of_work() as work:
                standing = await work.rows(queries.lock_cursor, {"log": "items"})
                if standing[0].cursor != cursor:
                    return  # another reader is ahead
                await store.put_items(work, batch.items)
                await store.put_event_types(work, batch.event_types)
                moved = {"log": "items", "cursor": batch.cursor}
                await work.execute(queries.write_cursor, moved)
                await work.commit()
            cursor = batch.cursor


class OutcomeFollower:
    """Records what became of the words, from policy's feed."""

    def __init__(
        self, database: Database, policy: policy_pb2_grpc.PolicyServiceAsyncStub, log: Logger
    ) -> None:
        self._database = database
        self._policy = policy
        self._log = log
        self._gaps = metrics.counter(
            "copygen", "feed_gaps", "", "Times that entries were gone before they were read."
        )

    async def catch_up(self) -> None:
        """Apply the feed since the cursor; each batch commits with its cursor."""
        while await self._apply_batch():
            pass

    async def _apply_batch(self) -> bool:
        async with self._database.unit_of_work() as work:
            rows = await work.rows(queries.lock_cursor, {"log": "feed"})
            answer = await self._read(rows[0].cursor)
            if answer.cursor == rows[0].cursor:
                return False
            await _record(work, answer.entries)
            await work.execute(queries.write_cursor, {"log": "feed", "cursor": answer.cursor})
            await work.commit()
        return answer.more

    async def _read(self, cursor: str) -> feed_pb2.ReadFeedResponse:
        """On from the cursor; from the oldest entry kept when policy no longer has what follows."""
        request = feed_pb2.ReadFeedRequest(cursor=cursor, limit=FEED_BATCH)
        try:
            return await self._policy.ReadFeed(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.OUT_OF_RANGE:
                raise
            self._gaps.inc()
            self._log.error("the feed has a gap", cursor=cursor, problem=error.details())
            request.cursor = ""
            return await self._policy.ReadFeed(request)


async def _record(work: UnitOfWork, entries: Sequence[feed_pb2.FeedEntry]) -> None:
    sends = {e.send.decision_id: e for e in entries if e.HasField("send")}
    engagements = [e for e in entries if e.HasField("engagement")]
    if sends:
        await _record_sends(work, list(sends.values()))
    if engagements:
        await _record_engagements(work, engagements)


async def _record_sends(work: UnitOfWork, entries: Sequence[feed_pb2.FeedEntry]) -> None:
    days = [store.day_of(entry.send.decision_id) for entry in entries]
    await ensure_day_partitions(work, "outcomes", {day for day in days if day})
    parameters = {
        "days": days,
        "decision_ids": [entry.send.decision_id for entry in entries],
        "user_ids": [entry.user_id for entry in entries],
        "variant_ids": [entry.send.variant_id for entry in entries],
        "styles": [entry.send.style for entry in entries],
        "event_types": [entry.send.event_type for entry in entries],
        "send_times": [_time(entry) for entry in entries],
    }
    await work.execute(queries.record_sends, parameters)


async def _record_engagements(work: UnitOfWork, entries: Sequence[feed_pb2.FeedEntry]) -> None:
    days = [store.day_of(entry.engagement.decision_id) for entry in entries]
    await ensure_day_partitions(work, "outcomes", {day for day in days if day})
    kinds = [entry.engagement.kind for entry in entries]
    parameters = {
        "days": days,
        "decision_ids": [entry.engagement.decision_id for entry in entries],
        "user_ids": [entry.user_id for entry in entries],
        "event_types": [entry.engagement.event_type for entry in entries],
        "engaged": [kind in _ENGAGED for kind in kinds],
        "dismissed": [kind in _DISMISSED for kind in kinds],
        "unsubscribed": [kind in _LEFT for kind in kinds],
    }
    await work.execute(queries.record_engagements, parameters)


def _time(entry: feed_pb2.FeedEntry) -> datetime:
    return entry.event_time.ToDatetime(tzinfo=UTC)
