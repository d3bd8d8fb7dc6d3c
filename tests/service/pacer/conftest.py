"""A pacer on real Postgres between peers that the test holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from heliograph.pacer.v1alpha1 import pacer_pb2, pacer_pb2_grpc
from pydantic import SecretStr

from services.pacer.bind import bind
from services.runtime.clock import at
from services.runtime.settings import Endpoint, RuntimeSettings
from services.runtime.system import System
from tests.service.pacer.peers import Peers

MORNING = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
SLOT = MORNING.replace(hour=9)
NOON = MORNING.replace(hour=13)


class Pacer:
    """A running pacer, called at simulated times."""

    def __init__(self, system: System) -> None:
        self.stub = pacer_pb2_grpc.PacerServiceStub(system.channel("pacer"))

    async def process(
        self, time: datetime, *users: str, limit: int = 0
    ) -> pacer_pb2.ProcessUsersResponse:
        """One pass at a time."""
        with at(time):
            return await self.stub.ProcessUsers(
                pacer_pb2.ProcessUsersRequest(user_ids=users, limit=limit)
            )

    async def slots(self, user: str) -> list[Any]:
        """A user's slots, oldest first."""
        answer = await self.stub.ListSlots(pacer_pb2.ListSlotsRequest(user_id=user))
        return list(answer.slots)[::-1]

    async def inbox(self, user: str) -> list[Any]:
        """A user's messages, newest first."""
        return list((await self.stub.ReadInbox(pacer_pb2.ReadInboxRequest(user_id=user))).messages)


StartPacer = Callable[..., AbstractAsyncContextManager[Pacer]]


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    """The other services."""
    books = Peers()
    await books.start()
    yield books
    await books.stop()


@pytest.fixture
def start_pacer(
    peers: Peers, database_url: str, secret_key: SecretStr, tmp_path: Path
) -> StartPacer:
    """Starts pacers that share one database and the peers."""

    @asynccontextmanager
    async def start(*, simulation: bool = True) -> AsyncIterator[Pacer]:
        peer = Endpoint(address=peers.address)
        settings = RuntimeSettings(
            environment="test",
            simulation=simulation,
            database_url=SecretStr(database_url),
            secret_key=secret_key,
            state_dir=tmp_path,
            candidate=peer,
            ranker=peer,
            policy=peer,
            copygen=peer,
            pacer=Endpoint(listen="127.0.0.1:0"),
        )
        async with System({"pacer": bind}, settings) as system:
            yield Pacer(system)

    return start


@pytest.fixture
async def pacer(start_pacer: StartPacer) -> AsyncIterator[Pacer]:
    """One pacer in simulation mode."""
    async with start_pacer() as running:
        yield running
