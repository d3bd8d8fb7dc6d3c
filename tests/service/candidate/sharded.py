"""A candidate service that holds the whole index, and one in front of shards, on one database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest

from services.candidate.bind import bind
from services.candidate.index import reading
from services.candidate.index.tables import Tables
from services.candidate.models import FitOptions, fit, save
from services.runtime.channels import Peers
from services.runtime.database import Database
from services.runtime.server import Service
from services.runtime.settings import Endpoint, RuntimeSettings
from tests.service.candidate.calls import Candidate

PREFIX = "HELIOGRAPH_CANDIDATE_"


@dataclass
class Sharded:
    """Shards and their front, in this process."""

    settings: RuntimeSettings
    patch: pytest.MonkeyPatch
    folder: Path
    peers: Peers
    shards: list[Service] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    async def start_shard(self, shard: int, count: int, listen: str = "127.0.0.1:0") -> None:
        """A shard; one that comes again takes its old address."""
        environ = {"SHARD": str(shard), "SHARD_COUNT": str(count), "MODEL_FOLDER": str(self.folder)}
        service, address = await self._start(environ, listen)
        if shard < len(self.shards):
            self.shards[shard] = service
        else:
            self.shards.append(service)
            self.addresses.append(address)

    async def start_front(self) -> tuple[Service, str]:
        """The front of all shards, and its address."""
        environ = {"SHARDS": ",".join(self.addresses), "SHARD_CHECK_INTERVAL": "PT0.1S"}
        return await self._start(environ, "127.0.0.1:0")

    async def _start(self, environ: Mapping[str, str], listen: str) -> tuple[Service, str]:
        settings = self.settings.model_copy(update={"candidate": Endpoint(listen=listen)})
        service = Service("candidate", bind, settings)
        address = service.open_port(settings)
        with self.patch.context() as patch:
            for name, value in environ.items():
                patch.setenv(PREFIX + name, value)
            try:
                await service.start(settings)
            except BaseException:
                await service.stop(0)
                raise
        return service, address


@asynccontextmanager
async def sharded(
    settings: RuntimeSettings, patch: pytest.MonkeyPatch, folder: Path, count: int
) -> AsyncIterator[tuple[Sharded, Candidate, grpc.aio.Channel]]:
    """`count` shards that serve the folder's model, and their front; a channel to it, too."""
    async with AsyncExitStack() as stack:
        peers = Peers(settings)
        stack.push_async_callback(peers.close)
        made = Sharded(settings, patch, folder, peers)
        for shard in range(count):
            await made.start_shard(shard, count)
        stack.push_async_callback(_stop, made)
        front, address = await made.start_front()
        stack.push_async_callback(front.stop, 1)
        channel = peers.channel_to("front", address)
        yield made, Candidate(channel), channel


async def _stop(made: Sharded) -> None:
    for shard in made.shards:
        await shard.stop(1)


async def fit_folder(database: Database, folder: Path) -> None:
    """What `heliograph candidate fit` makes of all that is stored."""
    async with database.read() as work:
        tables, _, _ = await reading.read_changes(work, Tables.empty(), reading.BEGINNING)
    columns = [
        each.columns.lists(np.arange(len(each.ids))) for each in (tables.users, tables.items)
    ]
    save(fit(tables.interactions, FitOptions(effort="quick"), *columns), folder)
