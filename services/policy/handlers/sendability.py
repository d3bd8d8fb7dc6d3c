"""StreamSendability."""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from heliograph.policy.v1alpha1 import sendability_pb2

from services.policy import decide_store, switch_store
from services.policy.batch import Batch, Event, EventType, Slot, Surroundings, User
from services.policy.channel_bits import CHANNELS
from services.policy.experiment_store import ExperimentStore
from services.policy.rules import apply_rules
from services.policy.rules.caps_and_gaps import caps_of, recent, remaining
from services.policy.rules.removal import KEPT
from services.policy.settings import PolicySettings
from services.policy.timestamps import timestamp
from services.runtime.clock import Clock
from services.runtime.database import Database, load_queries

DEFAULT_CHUNK = 10_000
MOST_SENDS = 255

Context = grpc.aio.ServicerContext[Any, Any]

_queries = load_queries(Path(__file__).parent.with_name("explain.sql"))
_ANYTHING = Event("any", EventType("any", CHANNELS, topic=""))


class SendabilityHandlers:
    """See the protos for what each call means."""

    database: Database
    clock: Clock
    experiments: ExperimentStore
    settings: PolicySettings

    async def StreamSendability(
        self, request: sendability_pb2.StreamSendabilityRequest, context: Context
    ) -> AsyncIterator[sendability_pb2.StreamSendabilityResponse]:
        size = request.chunk_size or DEFAULT_CHUNK
        after = ""
        while True:
            now = self.clock.now()
            async with self.database.read() as work:
                asked = {"after": after, "limit": size}
                names = [row.user_id for row in await work.rows(_queries.next_users, asked)]
                if not names:
                    return
                experiments = await self.experiments.current(work)
                users = await decide_store.read_users(work, names, experiments, now, lock=False)
                around = Surroundings(
                    now,
                    await switch_store.closed(work),
                    self.settings.caps,
                    self.settings.quiet_hours,
                )
            yield _chunk([name for name in names if name in users], users, around)
            after = names[-1]


def _chunk(
    names: Sequence[str], users: Mapping[str, User], around: Surroundings
) -> sendability_pb2.StreamSendabilityResponse:
    """By the rules of a decision about an event of a type that any channel may carry."""
    batch = Batch([Slot(name, name, around.now, (_ANYTHING,)) for name in names], users, around)
    left = apply_rules(batch).removed_by == KEPT
    bits = np.where(left, 1 << batch.column, 0).reshape(-1, len(CHANNELS)).sum(axis=1)
    bits[[user.membership.holdout for user in batch.users]] = 0
    caps = [caps_of(user.membership, around.caps) for user in batch.users]
    left_today = (
        remaining(cap, recent(user.fatigue.sends, around.now))
        for user, cap in zip(batch.users, caps, strict=True)
    )
    return sendability_pb2.StreamSendabilityResponse(
        user_ids=names,
        sendable_channels=bits.astype(np.uint8).tobytes(),
        remaining_today=bytes(min(MOST_SENDS, left) for left in left_today),
        daily_caps=bytes(min(MOST_SENDS, cap.per_day) for cap in caps),
        report_time=timestamp(around.now),
    )
