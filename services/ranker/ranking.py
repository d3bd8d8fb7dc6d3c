"""Rank: from users and events to scores, with the features kept under a rank id."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from services.ranker.batching import Batcher, Rows
from services.ranker.catalogue import Catalogue
from services.ranker.feature_store import FeatureStore
from services.ranker.features import (
    HEADS,
    EventFacts,
    Features,
    FeatureState,
    Head,
    UserSignals,
    event_features,
    rows,
    seconds,
    user_features,
)
from services.ranker.loading import Served
from services.ranker.promotion import Models
from services.ranker.rank_log import RankLog, UserSnapshot
from services.ranker.shadowing import Shadowing
from services.ranker.snapshots import encode_events, encode_users
from services.runtime.together import together


@dataclass(frozen=True, slots=True)
class RankedUser:
    """A user to rank for. An empty model version means the promoted one."""

    user_id: str
    signals: UserSignals
    model_version: str = ""


@dataclass(frozen=True, slots=True)
class RankCall:
    """Users (each once) and their events [N]; `user_row` [N] gives each event its user."""

    users: Sequence[RankedUser]
    event_ids: Sequence[str]
    events: Sequence[EventFacts]
    user_row: NDArray[np.int64]
    deliver_time: int | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """The answer: `scores` [N, heads], with rows of NaN where the model gave no number."""

    rank_id: str
    scores: NDArray[np.float32]
    model_versions: Sequence[str]
    trained_heads: Sequence[Head]


@dataclass(frozen=True, slots=True)
class _OfVersion:
    """What one version scores: positions of events, and their rows."""

    version: str
    events: NDArray[np.int64]
    rows: Rows


@dataclass(frozen=True, slots=True)
class _Prepared:
    users: Features
    events: Features
    parts: Sequence[_OfVersion]


class Ranker:
    """Scores events. One per service."""

    def __init__(
        self,
        store: FeatureStore,
        catalogue: Catalogue,
        models: Models,
        batcher: Batcher,
        log: RankLog,
        shadowing: Shadowing,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._models = models
        self._batcher = batcher
        self._log = log
        self._shadowing = shadowing

    async def rank(self, call: RankCall, now: datetime) -> Ranked:
        """Score the events and store the features used, before it answers.

        Raises NotFound (UNKNOWN_MODEL) and FailedPrecondition (MODEL_REFUSED, NO_MODEL).
        """
        async with self._models.held([user.model_version for user in call.users]) as served:
            return await self._rank(call, served, now)

    async def _rank(self, call: RankCall, served: Sequence[Served], now: datetime) -> Ranked:
        states = await self._store.states([user.user_id for user in call.users])
        prepared = await asyncio.to_thread(self._prepare, call, states, served, seconds(now))
        rank_id = f"{now.astimezone(UTC):%Y%m%d}.{secrets.token_hex(10)}"
        scores, _ = await asyncio.gather(
            self._score(prepared.parts, len(call.events)),
            self._keep(rank_id, call, prepared, served, now),
        )
        for part in prepared.parts:
            self._shadowing.offer(rank_id, part.version, part.rows, scores[part.events])
        trained = [head for head in HEADS if all(head in each.trained_heads for each in served)]
        return Ranked(rank_id, scores, [each.version for each in served], trained)

    def _prepare(
        self, call: RankCall, states: Sequence[FeatureState], served: Sequence[Served], now: int
    ) -> _Prepared:
        signals = [user.signals for user in call.users]
        with self._catalogue.items() as items:
            users = user_features(states, signals, now, items, call.deliver_time)
            events = event_features(call.events, now, items)
        versions = np.array([each.version for each in served])
        parts = []
        for version in sorted(set(versions.tolist())):
            own = np.flatnonzero(versions[call.user_row] == version)
            whole = Rows(users, rows(events, own), call.user_row[own])
            parts.append(_OfVersion(version, own, whole))
        return _Prepared(users, events, parts)

    async def _score(self, parts: Sequence[_OfVersion], count: int) -> NDArray[np.float32]:
        scores = np.zeros((count, len(HEADS)), np.float32)

        async def score(part: _OfVersion) -> None:
            scores[part.events] = await self._batcher.score(part.version, part.rows)

        await together([score(part) for part in parts])
        scores[~np.isfinite(scores).all(axis=1)] = np.nan
        return scores

    async def _keep(
        self,
        rank_id: str,
        call: RankCall,
        prepared: _Prepared,
        served: Sequence[Served],
        now: datetime,
    ) -> None:
        def snapshots() -> list[UserSnapshot]:
            encoded = encode_users(prepared.users)
            order = np.argsort(call.user_row, kind="stable")
            ends = np.searchsorted(call.user_row[order], np.arange(len(call.users) + 1))
            kept = []
            for row, user in enumerate(call.users):
                index = order[ends[row] : ends[row + 1]].tolist()
                event_ids = [call.event_ids[i] for i in index]
                events = encode_events(prepared.events, index)
                version = served[row].version
                kept.append(UserSnapshot(user.user_id, version, encoded[row], event_ids, events))
            return kept

        await self._log.keep(rank_id, now, await asyncio.to_thread(snapshots))
