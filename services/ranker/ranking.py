"""Rank: from users and events to scores, with the features kept under a rank id."""

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from services.ranker.backend import MOST_EVENTS, MOST_USERS, Backend
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
    model_inputs,
    rows,
    seconds,
    user_features,
)
from services.ranker.promotion import Models, Served
from services.ranker.rank_log import RankLog, UserSnapshot
from services.ranker.snapshots import encode_events, encode_users


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
class _Run:
    """Positions of events that go through the model together, and its inputs."""

    version: str
    events: NDArray[np.int64]
    inputs: Features


@dataclass(frozen=True, slots=True)
class _Prepared:
    users: Features
    events: Features
    runs: Sequence[_Run]


class Ranker:
    """Scores events. One per service."""

    def __init__(
        self,
        store: FeatureStore,
        catalogue: Catalogue,
        models: Models,
        backend: Backend,
        log: RankLog,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._models = models
        self._backend = backend
        self._log = log

    async def rank(self, call: RankCall, now: datetime) -> Ranked:
        """Score the events and store the features used, before it answers.

        Raises NotFound (UNKNOWN_MODEL) and FailedPrecondition (MODEL_REFUSED, NO_MODEL).
        """
        served = [await self._models.get(user.model_version) for user in call.users]
        states = await self._store.states([user.user_id for user in call.users])
        prepared = await asyncio.to_thread(self._prepare, call, states, served, seconds(now))
        rank_id = f"{now.astimezone(UTC):%Y%m%d}.{secrets.token_hex(10)}"
        scores, _ = await asyncio.gather(
            self._score(prepared.runs, len(call.events)),
            self._keep(rank_id, call, prepared, served, now),
        )
        trained = [head for head in HEADS if all(head in each.trained_heads for each in served)]
        return Ranked(rank_id, scores, [each.version for each in served], trained)

    def _prepare(
        self, call: RankCall, states: Sequence[FeatureState], served: Sequence[Served], now: int
    ) -> _Prepared:
        signals = [user.signals for user in call.users]
        with self._catalogue.items() as items:
            users = user_features(states, signals, now, items, call.deliver_time)
            events = event_features(call.events, now, items)
            runs = []
            for version in sorted({each.version for each in served}):
                of_version = np.array([each.version == version for each in served])
                for chosen, index in micro_batches(call.user_row, of_version):
                    local = np.searchsorted(chosen, call.user_row[index])
                    inputs = model_inputs(rows(users, chosen), rows(events, index), local, items)
                    runs.append(_Run(version, index, inputs))
        return _Prepared(users, events, runs)

    async def _score(self, runs: Sequence[_Run], count: int) -> NDArray[np.float32]:
        scores = np.zeros((count, len(HEADS)), np.float32)

        async def score(run: _Run) -> None:
            scores[run.events] = await self._backend.score(run.version, run.inputs)

        await asyncio.gather(*(score(run) for run in runs))
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


def micro_batches(
    user_row: NDArray[np.int64], chosen: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of chosen users that have events, in batches that a run takes, with their events' rows.

    `user_row` [N], `chosen` [U]. Both arrays of a batch are such that each event's user is in it;
    a user stands in several batches only with more than MOST_EVENTS events.
    """
    order = np.argsort(user_row, kind="stable")
    counts = np.bincount(user_row, minlength=len(chosen))
    starts = np.cumsum(counts) - counts
    batch: list[int] = []
    events: list[NDArray[np.int64]] = []
    size = 0
    for row in np.flatnonzero(chosen & (counts > 0)).tolist():
        own = order[starts[row] : starts[row] + counts[row]]
        for first in range(0, len(own), MOST_EVENTS):
            part = own[first : first + MOST_EVENTS]
            if batch and (len(batch) == MOST_USERS or size + len(part) > MOST_EVENTS):
                yield np.array(batch, np.int64), np.concatenate(events)
                batch, events, size = [], [], 0
            batch.append(row)
            events.append(part)
            size += len(part)
    if batch:
        yield np.array(batch, np.int64), np.concatenate(events)
