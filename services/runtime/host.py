"""What the frame gives a service's bind function."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

import grpc

from services.runtime.channels import Peers
from services.runtime.clock import Clock
from services.runtime.database import Database
from services.runtime.errors import DomainError
from services.runtime.handlers import wrap
from services.runtime.incoming import Frame
from services.runtime.logs import Logger
from services.runtime.settings import RuntimeSettings

Servicer = TypeVar("Servicer")


@dataclass(slots=True)
class Host:
    """One service under construction: its surroundings, and where it registers its parts."""

    name: str
    settings: RuntimeSettings
    clock: Clock
    database: Database
    """Connected as the service's own role, which can touch only the service's own schema."""
    peers: Peers
    log: Logger
    server: grpc.aio.Server
    frame: Frame
    report_health: Callable[[str, bool], Awaitable[None]]
    """Set the health entry of a name, e.g. of something that only some calls need."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the service begins to stop; endless streams should end then."""
    services: list[str] = field(default_factory=list)
    """Full names of the gRPC services added so far."""
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def add(self, register: Callable[[Servicer, grpc.aio.Server], Any], servicer: Servicer) -> None:
        """Serve `servicer`, e.g. `host.add(add_PolicyServiceServicer_to_server, Handler(...))`.

        It also shows in reflection and has its own health entry. Raises TypeError for a servicer
        with a method that is not asyncio.
        """
        registration = _Registration(self.server, self.frame, self.services)
        register(servicer, cast(grpc.aio.Server, registration))

    def periodic(
        self, name: str, every: timedelta, run: Callable[[datetime], Awaitable[None]]
    ) -> None:
        """Call `run(now)` at start and then every `every`; see Tasks for simulation mode."""
        self.frame.tasks.periodic(name, every, run)

    def background(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a long-lived task; it is cancelled first at shutdown, before calls are drained."""
        self.frame.tasks.background(name, run)

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Call `close` once all calls have ended; the last one added is called first."""
        self.closers.append(close)

    def map_constraints(self, constraints: Mapping[str, Callable[[], DomainError]]) -> None:
        """Say which domain error the violation of each named database constraint means."""
        self.database.map_constraints(constraints)


Bind = Callable[[Host], Awaitable[None]]
"""Builds one service: reads its own settings, makes its parts and adds them to the host."""


class _Registration:
    """Stands in for the server while a servicer registers: learns the service's full name, and
    puts the frame around its handlers."""

    def __init__(self, server: grpc.aio.Server, frame: Frame, services: list[str]) -> None:
        self._server = server
        self._frame = frame
        self._services = services

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Generated code passes here what it passes again, by name, below."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        framed = {
            method: wrap(self._frame, f"/{service}/{method}", handler)
            for method, handler in handlers.items()
        }
        generic = grpc.method_handlers_generic_handler(service, framed)
        self._server.add_generic_rpc_handlers((generic,))
        self._services.append(service)
