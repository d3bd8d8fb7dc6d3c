"""Removing a user from every service, in steps that can be taken up again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

import grpc
from heliograph.candidate.v1alpha1 import catalogue_pb2
from heliograph.copygen.v1alpha1 import copygen_pb2
from heliograph.policy.v1alpha1 import recipients_pb2
from heliograph.ranker.v1alpha1 import ranker_pb2

from services.pacer.clients import Clients
from services.pacer.store.erasures import ErasureStore
from services.runtime.clock import Clock
from services.runtime.errors import DomainError
from services.runtime.failures import told
from services.runtime.logs import Logger

OWN = "pacer"

Erase = Callable[[str], Awaitable[object]]


class Erasure:
    """Erases in the other services first and here last, and notes each that is done.

    Work that was in hand meanwhile may still write once, so the own tables are swept a second time
    when every lease of that moment has run out; then the note itself goes.
    """

    def __init__(
        self,
        clock: Clock,
        clients: Clients,
        store: ErasureStore,
        log: Logger,
        sweep_after: timedelta,
    ) -> None:
        self._clock = clock
        self._store = store
        self._log = log
        self._sweep_after = sweep_after
        self._erase: Mapping[str, Erase] = {
            "candidate": lambda user: clients.candidate.EraseUser(
                catalogue_pb2.EraseUserRequest(user_id=user)
            ),
            "ranker": lambda user: clients.ranker.EraseUser(
                ranker_pb2.EraseUserRequest(user_id=user)
            ),
            "policy": lambda user: clients.policy.EraseUser(
                recipients_pb2.EraseUserRequest(user_id=user)
            ),
            "copygen": lambda user: clients.copygen.EraseUser(
                copygen_pb2.EraseUserRequest(user_id=user)
            ),
        }

    async def erase(self, user_id: str) -> tuple[list[str], list[str]]:
        """Remove a user where that is still to do; the services that are done, and those that
        could not be reached."""
        done = await self._store.begin(user_id)
        open_services = [name for name in self._erase if name not in done]
        reached = await asyncio.gather(*(self._reach(name, user_id) for name in open_services))
        done |= {name for name, ok in zip(open_services, reached, strict=True) if ok}
        pending = [name for name in self._erase if name not in done]
        await self._store.erase_own(user_id)
        if pending:
            await self._store.note(user_id, done, None)
            return sorted(done), [*pending, OWN]
        await self._store.note(user_id, done, self._clock.now() + self._sweep_after)
        return sorted({*done, OWN}), []

    async def resume(self, now: datetime) -> None:
        """Go on with what is pending, and sweep what is due."""
        for user_id in await self._store.pending():
            await self.erase(user_id)
        for user_id in await self._store.due_sweeps(now):
            await self._store.erase_own(user_id, last=True)

    async def _reach(self, name: str, user_id: str) -> bool:
        try:
            await self._erase[name](user_id)
        except (grpc.aio.AioRpcError, DomainError) as error:
            self._log.warning("a service could not erase a user yet", peer=name, error=told(error))
            return False
        return True
