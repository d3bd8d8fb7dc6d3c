"""Users into whose pool something came get a slot to wait for."""

import grpc
from heliograph.candidate.v1alpha1 import pool_pb2

from services.pacer.clients import Clients
from services.pacer.convert import to_time
from services.pacer.leases import Leases
from services.pacer.report import Report
from services.pacer.settings import PacerSettings
from services.pacer.slot_times import offers
from services.pacer.stages.contexts import user_contexts
from services.pacer.store.slots import SlotStore
from services.runtime.clock import Clock


class Arrivals:
    """Reads candidate's arrivals by cursor; slots and cursor move in one transaction."""

    def __init__(
        self,
        settings: PacerSettings,
        clock: Clock,
        clients: Clients,
        store: SlotStore,
        leases: Leases,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._clients = clients
        self._store = store
        self._leases = leases

    async def step(self, report: Report) -> bool:
        """Take one batch; whether there may be more right now. Raises Held."""
        async with self._leases.hold_rule():
            before = await self._store.cursor()
            with report.timed("arrivals"):
                answer = await self._read(before)
            if answer.cursor == before:
                return False
            return not await self._store_slots(before, answer, report) or answer.more

    async def _read(self, cursor: str) -> pool_pb2.ReadArrivalsResponse:
        """From the start when candidate, restored from a backup, is behind the cursor."""
        request = pool_pb2.ReadArrivalsRequest(cursor=cursor, limit=self._settings.batch_arrivals)
        try:
            return await self._clients.candidate.ReadArrivals(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.OUT_OF_RANGE:
                raise
            request.cursor = ""
            return await self._clients.candidate.ReadArrivals(request)

    async def _store_slots(
        self, before: str, answer: pool_pb2.ReadArrivalsResponse, report: Report
    ) -> bool:
        users = list(answer.user_ids)
        contexts = await user_contexts(self._clients, users, report) if users else {}
        now, settings = self._clock.now(), self._settings
        possible = {}
        for user in users:
            known = contexts.get(user)
            delay = settings.unknown_user_delay if known is None else settings.fallback_delay
            times = [] if known is None else map(to_time, known.next_slot_times)
            possible[user] = offers(user, now, delay, times)
        with report.timed("arrivals", len(users)):
            return await self._store.add_arrivals(before, answer.cursor, possible)
