"""Follows policy's feed: every batch moves features, logs and cursor in one transaction."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.policy.v1alpha1 import feed_pb2, policy_pb2_grpc

from services.ranker import rank_log
from services.ranker.feature_store import lock_states, put_states
from services.ranker.feature_store import queries as feature_queries
from services.ranker.features import (
    Channel,
    Decision,
    Engagement,
    EngagementKind,
    Entry,
    FeatureState,
    Send,
    Session,
    apply,
    item_key,
    new_entries,
)
from services.ranker.features.items import HISTORY, units
from services.runtime import metrics
from services.runtime.clock import Clock
from services.runtime.database import Database, UnitOfWork
from services.runtime.logs import Logger
from services.runtime.partitions import ensure_day_partitions

BATCH = 5000
DROPPED = 0
"""Kind of an outcome: the delivery never went out."""
MOST_AHEAD_S = 86400
"""Entries that claim to be further ahead of the clock are left out of the features."""
_OPENS = (EngagementKind.OPEN, EngagementKind.CLICK)


class FeedFollower:
    """Applies the feed once, however many replicas read it."""

    def __init__(
        self,
        database: Database,
        policy: policy_pb2_grpc.PolicyServiceAsyncStub,
        clock: Clock,
        log: Logger,
    ) -> None:
        self._database = database
        self._policy = policy
        self._clock = clock
        self._log = log
        self._read_until: datetime | None = None
        self._applied = metrics.counter("ranker", "feed_entries", "", "Feed entries applied.")
        self._lag = metrics.gauge(
            "ranker", "feed_lag", "seconds", "Age of the last feed entry when it was applied."
        )
        self._gaps = metrics.counter(
            "ranker", "feed_gaps", "", "Times that entries were gone before they were read."
        )

    @property
    def read_until(self) -> datetime | None:
        """What happened before this time and has been reported is known here."""
        return self._read_until

    async def catch_up(self) -> bool:
        """Apply the feed to its end; whether there was anything."""
        applied = False
        more = True
        while more:
            count, more = await self._apply_batch()
            applied = applied or count > 0
        return applied

    async def _apply_batch(self) -> tuple[int, bool]:
        now = self._clock.now()
        async with self._database.unit_of_work() as work:
            (row,) = await work.rows(feature_queries.lock_cursor, {"log": "feed"})
            answer = await self._read(row.cursor)
            if answer.cursor != row.cursor:
                await _update_features(work, answer.entries, now)
                await _update_logs(work, answer.entries)
                moved = {"log": "feed", "cursor": answer.cursor}
                await work.execute(feature_queries.write_cursor, moved)
                await work.commit()
        if answer.entries:
            self._applied.inc(len(answer.entries))
            last = answer.entries[-1].event_time.seconds
            self._lag.set(max(0.0, now.timestamp() - last))
        if not answer.more:
            self._read_until = now
        return len(answer.entries), answer.more

    async def _read(self, cursor: str) -> feed_pb2.ReadFeedResponse:
        """On from the cursor; from the oldest entry kept when policy no longer has what follows."""
        request = feed_pb2.ReadFeedRequest(cursor=cursor, limit=BATCH)
        try:
            return await self._policy.ReadFeed(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.OUT_OF_RANGE:
                raise
            self._gaps.inc()
            self._log.error("the feed has a gap", cursor=cursor, problem=error.details())
            request.cursor = ""
            return await self._policy.ReadFeed(request)


def entry_of(message: feed_pb2.FeedEntry) -> Entry | None:
    """The entry as the features take it; None for one that does not concern them."""
    time = message.event_time.seconds
    match message.WhichOneof("entry"):
        case "decision":
            return Decision(time, message.decision.decision_id, message.decision.send)
        case "send":
            send = message.send
            if not send.channel:
                return None
            about = (Channel(send.channel), send.event_type, tuple(send.item_ids))
            return Send(time, send.delivery_id, *about, send.source_score)
        case "engagement":
            done = message.engagement
            if not done.channel or not done.kind:
                return None
            about = (Channel(done.channel), done.event_type, tuple(done.item_ids))
            decided = done.decide_time.seconds if done.HasField("decide_time") else None
            kind = EngagementKind(done.kind)
            return Engagement(time, done.engagement_id, kind, *about, decide_time=decided)
        case "session":
            return Session(time, message.session.session_id, message.session.app_deleted)
        case _:
            return None


async def _update_features(
    work: UnitOfWork, messages: Sequence[feed_pb2.FeedEntry], now: datetime
) -> None:
    latest = now.timestamp() + MOST_AHEAD_S
    by_user: dict[str, list[Entry]] = defaultdict(list)
    for message in messages:
        entry = entry_of(message)
        if entry is not None and entry.time <= latest:
            by_user[message.user_id].append(entry)
    before = await lock_states(work, list(by_user))
    after, fresh = await asyncio.to_thread(_applied, before, by_user)
    await put_states(work, after)
    await _count_items(work, fresh)


def _applied(
    before: Mapping[str, FeatureState], by_user: Mapping[str, Sequence[Entry]]
) -> tuple[dict[str, FeatureState], list[Entry]]:
    after: dict[str, FeatureState] = {}
    fresh: list[Entry] = []
    for user, entries in by_user.items():
        state = before.get(user, FeatureState())
        after[user] = apply(state, entries)
        fresh += new_entries(state, after[user], entries)
    return after, fresh


async def _count_items(work: UnitOfWork, entries: Sequence[Entry]) -> None:
    """Items' history counts each send and open once, for the first item."""
    counts: defaultdict[int, Tally[str]] = defaultdict(Tally)
    for entry in entries:
        match entry:
            case Send(item_ids=[first, *_], source_score=score):
                counts[item_key(first)].update(sends=1, scored=int(score > 0), scores=units(score))
            case Engagement(kind=kind, item_ids=[first, *_]) if kind in _OPENS:
                counts[item_key(first)].update(opens=1)
    if counts:
        keys = sorted(counts)
        columns = {name: [counts[key][name] for key in keys] for name in HISTORY}
        await work.execute(feature_queries.lock_cursor, {"log": "items"})
        await work.execute(feature_queries.count_items, {"keys": keys, **columns})


async def _update_logs(work: UnitOfWork, messages: Sequence[feed_pb2.FeedEntry]) -> None:
    decisions = [m for m in messages if m.HasField("decision")]
    outcomes = [m for m in messages if m.HasField("engagement") or m.HasField("drop")]
    sessions = [m for m in messages if m.HasField("session")]
    queries = rank_log.queries
    if decisions:
        columns = _decision_columns(decisions)
        await ensure_day_partitions(work, "decisions", set(columns["days"]))
        await work.execute(queries.insert_decisions, columns)
    if outcomes:
        columns = _outcome_columns(outcomes)
        await ensure_day_partitions(work, "outcomes", set(columns["days"]))
        await work.execute(queries.insert_outcomes, columns)
    if sessions:
        columns = _session_columns(sessions)
        await ensure_day_partitions(work, "sessions", set(columns["days"]))
        await work.execute(queries.insert_sessions, columns)


def _decision_columns(messages: Sequence[feed_pb2.FeedEntry]) -> dict[str, list[Any]]:
    made = [message.decision for message in messages]
    return {
        "days": [_day(m.decision.decision_id, m.event_time) for m in messages],
        "decision_ids": [each.decision_id for each in made],
        "user_ids": [message.user_id for message in messages],
        "times": [_time(message.event_time) for message in messages],
        "rank_ids": [each.rank_id for each in made],
        "event_ids": [each.event_id if each.send else "" for each in made],
        "channels": [int(each.channel) if each.send else 0 for each in made],
        "push_disabled": [each.push_disabled for each in made],
    }


def _outcome_columns(messages: Sequence[feed_pb2.FeedEntry]) -> dict[str, list[Any]]:
    about = [m.engagement if m.HasField("engagement") else m.drop for m in messages]
    return {
        "days": [
            _day(each.decision_id, message.event_time)
            for message, each in zip(messages, about, strict=True)
        ],
        "decision_ids": [each.decision_id for each in about],
        "outcome_ids": [
            m.engagement.engagement_id if m.HasField("engagement") else m.drop.delivery_id
            for m in messages
        ],
        "user_ids": [message.user_id for message in messages],
        "kinds": [
            int(m.engagement.kind) if m.HasField("engagement") else DROPPED for m in messages
        ],
        "times": [_time(message.event_time) for message in messages],
    }


def _session_columns(messages: Sequence[feed_pb2.FeedEntry]) -> dict[str, list[Any]]:
    return {
        "days": [_time(message.event_time).date() for message in messages],
        "session_ids": [message.session.session_id for message in messages],
        "user_ids": [message.user_id for message in messages],
        "times": [_time(message.event_time) for message in messages],
        "app_deleted": [message.session.app_deleted for message in messages],
    }


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def _day(identifier: str, stamp: Timestamp) -> date:
    return rank_log.day_of(identifier) or _time(stamp).date()
