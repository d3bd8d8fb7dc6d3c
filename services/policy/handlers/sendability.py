"""StreamSendability."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from heliograph.policy.v1alpha1 import sendability_pb2

from services.policy import sendability_store, switch_store
from services.policy.batch import Surroundings
from services.policy.experiment_store import ExperimentStore
from services.policy.sendability import Sendability, sendability
from services.policy.settings import PolicySettings
from services.policy.timestamps import timestamp
from services.runtime.clock import Clock
from services.runtime.database import Database

DEFAULT_CHUNK = 10_000

Context = grpc.aio.ServicerContext[Any, Any]


class SendabilityHandlers:
    """See the protos for what each call means."""

    database: Database
    clock: Clock
    experiments: ExperimentStore
    settings: PolicySettings

    async def StreamSendability(
        self, request: sendability_pb2.StreamSendabilityRequest, context: Context
    ) -> AsyncIterator[sendability_pb2.StreamSendabilityResponse]:
        size, caps = request.chunk_size or DEFAULT_CHUNK, self.settings.caps
        async with self.database.read() as work:
            numbers = await sendability_store.partitions(work)
        for number in numbers:
            now = self.clock.now()
            async with self.database.read() as work:
                groups = await sendability_store.read_partition(work, number, now, caps.gap_seconds)
                if not groups:
                    continue
                experiments = await self.experiments.current(work)
                switches = await switch_store.closed(work)
            around = Surroundings(now, switches, caps, self.settings.quiet_hours)
            found = await asyncio.to_thread(sendability, groups, experiments, around)
            for part in found.parts(size):
                yield _chunk(part, around)


def _chunk(found: Sendability, around: Surroundings) -> sendability_pb2.StreamSendabilityResponse:
    return sendability_pb2.StreamSendabilityResponse(
        user_ids=found.user_ids,
        sendable_channels=found.channels.tobytes(),
        remaining_today=found.remaining.tobytes(),
        daily_caps=found.caps.tobytes(),
        report_time=timestamp(around.now),
    )
