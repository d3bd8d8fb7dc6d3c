"""StreamSendability."""

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
        after = ""
        while True:
            now = self.clock.now()
            async with self.database.read() as work:
                page = await sendability_store.read_page(work, after, size, now, caps.gap_seconds)
                if not page.groups:
                    return
                experiments = await self.experiments.current(work)
                switches = await switch_store.closed(work)
            around = Surroundings(now, switches, caps, self.settings.quiet_hours)
            yield _chunk(sendability(page.groups, experiments, around), around)
            after = page.last_user


def _chunk(found: Sendability, around: Surroundings) -> sendability_pb2.StreamSendabilityResponse:
    return sendability_pb2.StreamSendabilityResponse(
        user_ids=found.user_ids,
        sendable_channels=found.channels.tobytes(),
        remaining_today=found.remaining.tobytes(),
        daily_caps=found.caps.tobytes(),
        report_time=timestamp(around.now),
    )
