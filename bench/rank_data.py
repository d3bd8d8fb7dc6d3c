"""Users with histories, items and Rank calls, made up, for benches of the ranker."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from heliograph.ranker.v1alpha1 import ranker_pb2
from pydantic import SecretStr

from bench.service_process import BenchDatabase
from services.ranker.feature_store import put_states, queries
from services.ranker.features import (
    CONTENT_DIMENSIONS,
    Channel,
    Engagement,
    EngagementKind,
    Entry,
    Features,
    FeatureState,
    ItemTable,
    Send,
    Session,
    apply,
    content_ref,
    event_features,
    item_key,
    model_inputs,
    user_features,
)
from services.ranker.requests import rank_request
from services.runtime.database import Database
from services.runtime.roles import service_url

USERS = 2_000
ITEMS = 2_000
MEDIAN_SENDS = 12
"""Of a user's history; a tenth have more than five times as many."""
DAY = 86_400
SEED = 1


@dataclass(frozen=True)
class RankData:
    """The same from each start; `now` in seconds."""

    now: int

    @cached_property
    def states(self) -> list[FeatureState]:
        """Of each user."""
        random = np.random.default_rng(SEED)
        return [apply(FeatureState(), self._history(random)) for _ in range(USERS)]

    @cached_property
    def items(self) -> ItemTable:
        """All items, with vectors of length 1."""
        vectors = np.random.default_rng(SEED).normal(size=(ITEMS, CONTENT_DIMENSIONS))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        table = ItemTable()
        for item, vector in enumerate(vectors.astype(np.float32)):
            table.put(item_id(item), 1, vector)
        return table

    def request(self, seed: int, users: int, events: int) -> ranker_pb2.RankRequest:
        """A call about so many users, drawn evenly, with so many events each."""
        random = np.random.default_rng((SEED, seed))
        request = ranker_pb2.RankRequest()
        for row, user in enumerate(random.choice(USERS, users, replace=False).tolist()):
            request.users.add(user_id=user_id(user), segment="casual", time_zone="Europe/Berlin")
            for number, item in enumerate(random.choice(ITEMS, events).tolist()):
                event = request.events.add(
                    event_id=f"{row}-{number}",
                    event_type="item.suggestion",
                    item_ids=[item_id(item)],
                    source="collaborative",
                    source_score=float(random.random()),
                )
                event.create_time.seconds = self.now - int(random.integers(DAY))
                request.user_row.append(row)
        return request

    def inputs(self, requests: Sequence[ranker_pb2.RankRequest]) -> Features:
        """What the model is given for the users and events of some calls together."""
        calls = [rank_request(request).call for request in requests]
        users = [user for call in calls for user in call.users]
        facts = [event for call in calls for event in call.events]
        sizes = [len(call.users) for call in calls]
        shifts = np.cumsum(sizes) - sizes
        user_row = [call.user_row + shift for call, shift in zip(calls, shifts, strict=True)]
        states = [self.states[int(user.user_id[1:])] for user in users]
        signals = [user.signals for user in users]
        return model_inputs(
            user_features(states, signals, self.now, self.items),
            event_features(facts, self.now, self.items),
            np.concatenate(user_row),
            self.items,
        )

    def store(self, place: BenchDatabase) -> None:
        """Put states and items where the ranker reads them."""
        asyncio.run(self._store(service_url(place.url, "ranker", SecretStr(place.secret_key))))

    async def _store(self, url: str) -> None:
        database = Database(url)
        names = [item_id(item) for item in range(ITEMS)]
        refs = [content_ref(name, 1) for name in names]
        vectors = [row.tobytes() for row in self.items.vectors(np.array(refs, np.int64))]
        versions = [1] * ITEMS
        keys = [item_key(name) for name in names]
        try:
            async with database.unit_of_work() as work:
                contents = {"refs": refs, "item_ids": names, "versions": versions}
                await work.execute(queries.put_contents, {**contents, "vectors": vectors})
                items = {"keys": keys, "refs": refs, "versions": versions}
                await work.execute(queries.put_items, items)
                await put_states(
                    work, {user_id(user): state for user, state in enumerate(self.states)}
                )
                await work.commit()
        finally:
            await database.close()

    def _history(self, random: np.random.Generator) -> list[Entry]:
        found: list[Entry] = []
        for number in range(round(MEDIAN_SENDS * float(np.exp(1.3 * random.normal())))):
            time = self.now - int(random.integers(28 * DAY))
            name, item = f"{number}", item_id(int(random.integers(ITEMS)))
            found.append(Send(time, name, Channel.PUSH, "item.suggestion", [item]))
            if random.random() < 0.3:
                kind = EngagementKind.OPEN if random.random() < 0.7 else EngagementKind.DISMISS
                later = time + int(random.integers(3600))
                found.append(
                    Engagement(later, name, kind, Channel.PUSH, "item.suggestion", [item], time)
                )
                found.append(Session(later, name))
        return found


def user_id(number: int) -> str:
    """The id of a user."""
    return f"u{number}"


def item_id(number: int) -> str:
    """The id of an item."""
    return f"i{number}"
