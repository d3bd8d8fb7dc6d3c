"""Rank: from users and events to scores, with the features kept under a rank id."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from services.ranker.batching import Batcher, Rows
from services.ranker.features import (
    HEADS,
    EventFacts,
    Head,
    UserSignals,
    rows,
    seconds,
)
from services.ranker.loading import Served
from services.ranker.preparing import Facts, Preparation, Prepared
from services.ranker.promotion import Models
from services.ranker.rank_log import RankLog, UserSnapshot
from services.ranker.shadowing import Shadowing
from services.runtime import calls
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
    trained_heads: tuple[Head, ...]


@dataclass(frozen=True, slots=True)
class _OfVersion:
    """What one version scores: positions of events, and their rows."""

    version: str
    events: NDArray[np.int64]
    rows: Rows


class Ranker:
    """Scores events. One per service."""

    def __init__(
        self,
        preparation: Preparation,
        models: Models,
        batcher: Batcher,
        log: RankLog,
        shadowing: Shadowing,
    ) -> None:
        self._preparation = preparation
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
        facts = Facts(
            user_ids=[user.user_id for user in call.users],
            signals=[user.signals for user in call.users],
            events=call.events,
            user_row=call.user_row,
            now=seconds(now),
            deliver_time=call.deliver_time,
        )
        prepared = await self._preparation.prepare(facts)
        parts = _by_version(call, prepared, served)
        rank_id = f"{now.astimezone(UTC):%Y%m%d}.{calls.fresh_id(10)}"
        scores, _ = await asyncio.gather(
            self._score(parts, len(call.events)),
            self._log.keep(rank_id, now, _snapshots(call, prepared, served)),
        )
        for part in parts:
            self._shadowing.offer(rank_id, part.version, part.rows, scores[part.events])
        versions = {each.trained_heads for each in served}
        trained = tuple(head for head in HEADS if all(head in each for each in versions))
        return Ranked(rank_id, scores, [each.version for each in served], trained)

    async def _score(self, parts: Sequence[_OfVersion], count: int) -> NDArray[np.float32]:
        scores = np.zeros((count, len(HEADS)), np.float32)

        async def score(part: _OfVersion) -> None:
            scores[part.events] = await self._batcher.score(part.version, part.rows)

        await together([score(part) for part in parts])
        scores[~np.isfinite(scores).all(axis=1)] = np.nan
        return scores


def _by_version(
    call: RankCall, prepared: Prepared, served: Sequence[Served]
) -> Sequence[_OfVersion]:
    """Nearly all calls ask one version."""
    names = [each.version for each in served]
    if len(set(names)) == 1:
        whole = Rows(prepared.users, prepared.events, call.user_row)
        return [_OfVersion(names[0], np.arange(len(call.events)), whole)]
    parts = []
    versions = np.array(names)
    for version in sorted(set(names)):
        own = np.flatnonzero(versions[call.user_row] == version)
        asked = Rows(prepared.users, rows(prepared.events, own), call.user_row[own])
        parts.append(_OfVersion(version, own, asked))
    return parts


def _snapshots(
    call: RankCall, prepared: Prepared, served: Sequence[Served]
) -> Sequence[UserSnapshot]:
    return [
        UserSnapshot(
            user.user_id, each.version, features, [call.event_ids[i] for i in positions], events
        )
        for user, each, (features, positions, events) in zip(
            call.users, served, prepared.snapshots, strict=True
        )
    ]
