"""Several services in one process, each on its own port and with its own database role."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import grpc

from services.runtime.channels import Peers
from services.runtime.host import Bind
from services.runtime.server import Service
from services.runtime.settings import RuntimeSettings


class System:
    """The all-in-one process, and the system under test.

    `async with System({"candidate": bind, "policy": bind}, settings) as system:` starts them; a
    listen port of 0 in the settings takes a free one, which the other services are told.
    """

    def __init__(self, binds: Mapping[str, Bind], settings: RuntimeSettings | None = None) -> None:
        self.settings = (settings or RuntimeSettings()).with_secret_key()
        self._services = [Service(name, bind, self.settings) for name, bind in binds.items()]
        self._started: list[Service] = []
        self._peers: Peers | None = None

    async def start(self) -> None:
        """Open all ports, then start the services in the order given. Raises ConfigurationError;
        what had started is stopped again."""
        try:
            self._open_ports()
            for service in self._services:
                self._started.append(service)
                await service.start(self.settings)
        except BaseException:
            await self.stop()
            raise

    def _open_ports(self) -> None:
        addresses = {}
        for service in self._services:
            endpoint = self.settings.endpoint(service.name)
            address = service.open_port(self.settings)
            changes = {"listen": address, "address": endpoint.address or address}
            addresses[service.name] = endpoint.model_copy(update=changes)
        self.settings = self.settings.model_copy(update=addresses)
        self._peers = Peers(self.settings)

    def address(self, name: str) -> str:
        """`host:port` of a service."""
        return self.settings.endpoint(name).target

    def channel(self, name: str) -> grpc.aio.Channel:
        """A channel to a service, as its peers have it: with deadlines, retries and the simulated
        time of `with at(...)`. Closed with the system."""
        if self._peers is None:
            raise RuntimeError("the system is not started")
        return self._peers.channel(name)

    async def stop(self) -> None:
        """Stop all services together, each in its stated order. Safe to call again."""
        started, self._started = self._started, []
        grace = self.settings.shutdown_grace_s
        if self._peers is not None:
            await self._peers.close()
            self._peers = None
        await asyncio.gather(*(service.stop(grace) for service in started))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
