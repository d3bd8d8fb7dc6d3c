"""One running service: opens its port, is bound, serves, and stops in a stated order."""

import asyncio
import errno
import gc
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.runtime import logs, tls, tracing
from services.runtime.access import Authoriser
from services.runtime.access_table import METHODS
from services.runtime.admission import Admission
from services.runtime.channels import Peers
from services.runtime.clock import Clock
from services.runtime.database import Database
from services.runtime.errors import Unavailable
from services.runtime.host import Bind, Host
from services.runtime.incoming import Frame
from services.runtime.periodic import Tasks
from services.runtime.roles import service_url
from services.runtime.settings import ConfigurationError, RuntimeSettings

_DATABASE_PAUSE_S = 0.2
VALUES_OF_BATCHES = 50_000
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Service:
    """One service from its name and bind function.

    `open_port`, then `start`, then `stop`. The port is opened first, so that several services in
    one process know each other's addresses before any of them is bound.
    """

    def __init__(self, name: str, bind: Bind, settings: RuntimeSettings) -> None:
        settings.check_listen(name)
        self.name = name
        self._bind = bind
        self._log = logs.logger(name)
        self._frame = make_frame(settings, name, self._log)
        self._tracing = tracing.start(settings, name)
        self._server = grpc.aio.server(
            interceptors=self._tracing.server, options=server_options(settings)
        )
        self._health = health.aio.HealthServicer()
        self._host: Host | None = None

    def open_port(self, settings: RuntimeSettings) -> str:
        """Listen; returns `host:port` with the port that was taken. Raises ConfigurationError."""
        listen = settings.endpoint(self.name).listen
        variable = f"HELIOGRAPH_{self.name.upper()}_LISTEN"
        require_free(self.name, listen, variable)
        credentials = tls.server_credentials(settings)
        try:
            if credentials is None:
                port = self._server.add_insecure_port(listen)
            else:
                port = self._server.add_secure_port(listen, credentials)
        except RuntimeError as error:
            raise ConfigurationError(
                f"{self.name} cannot listen on {listen}; change {variable}"
            ) from error
        return listen if listen.startswith("unix:") else f"{listen.rsplit(':', 1)[0]}:{port}"

    async def start(self, settings: RuntimeSettings) -> None:
        """Wait for the database, bind and serve. Raises ConfigurationError; after a failure
        `stop` releases what was opened."""
        database = await connect(settings, self.name)
        self._host = Host(
            name=self.name,
            settings=settings,
            clock=self._frame.clock,
            database=database,
            peers=Peers(settings, self.name, self._tracing.client),
            log=self._log,
            server=self._server,
            frame=self._frame,
            report_health=self._report_health,
        )
        await self._bind(self._host)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for name in self._host.services:
            await self._health.set(name, _SERVING)
        shown = [*self._host.services, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(shown, self._server)
        keep_what_lives_on()
        await self._server.start()
        self._frame.tasks.start()

    async def stop(self, grace_s: float) -> None:
        """Health to NOT_SERVING, cancel tasks, drain calls for `grace_s` seconds, close what the
        service opened in reverse order, close channels and pool, send the last traces."""
        await self._health.enter_graceful_shutdown()
        if self._host is not None:
            self._host.stopping.set()
        await self._frame.tasks.stop()
        await self._server.stop(grace_s)
        await self._frame.tasks.close()
        if self._host is not None:
            for close in reversed(self._host.closers):
                await self._close(close)
            await self._close(self._host.peers.close)
            await self._close(self._host.database.close)
        await asyncio.to_thread(self._tracing.close)

    async def _report_health(self, name: str, serving: bool) -> None:
        await self._health.set(name, _SERVING if serving else _NOT_SERVING)

    async def _close(self, close: Callable[[], Awaitable[None]]) -> None:
        try:
            await close()
        except Exception:
            self._log.exception("closing failed")


def keep_what_lives_on() -> None:
    """Take what a bound service holds out of the garbage collector's sight, and have it look after
    batches, not after every few hundred values of one: it took a seventh of a publisher's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(VALUES_OF_BATCHES, 20, 100)


def make_frame(settings: RuntimeSettings, name: str, log: logs.Logger) -> Frame:
    """What all calls of one service share."""
    clock = Clock(simulation=settings.simulation)
    authoriser = Authoriser(METHODS, settings.caller_roles) if settings.mutual_tls else None
    return Frame(
        service=name,
        clock=clock,
        tasks=Tasks(name, clock, log),
        log=log,
        access_log=settings.access_log,
        authoriser=authoriser,
        calls=Admission("calls", settings.max_concurrent_calls),
        streams=Admission("streams", settings.max_concurrent_streams),
    )


def server_options(settings: RuntimeSettings) -> Sequence[tuple[str, int]]:
    """gRPC options of every server."""
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10000),
    ]


async def connect(settings: RuntimeSettings, name: str) -> Database:
    """The service's database, once it answers. Raises ConfigurationError after the wait."""
    database = Database(
        database_url_of(settings, name),
        pool_size=settings.database_pool_size,
        application_name=f"heliograph-{name}",
    )
    give_up = time.monotonic() + settings.database_wait_s
    while True:
        try:
            await database.ping()
            return database
        except Unavailable as error:
            if time.monotonic() >= give_up:
                await database.close()
                why = str(error.__cause__).partition("\n")[0]
                raise ConfigurationError(
                    f"the database did not answer within {settings.database_wait_s:g} s ({why}); "
                    "check HELIOGRAPH_DATABASE_URL, or wait longer: HELIOGRAPH_DATABASE_WAIT_S"
                ) from error
            await asyncio.sleep(_DATABASE_PAUSE_S)


def database_url_of(settings: RuntimeSettings, name: str) -> str:
    """URL of the service's database with its own role. Raises ConfigurationError if none is set."""
    own = settings.endpoint(name).database_url.get_secret_value()
    shared = settings.database_url.get_secret_value()
    if own:
        return own
    if not shared:
        raise ConfigurationError(
            "no database: set HELIOGRAPH_DATABASE_URL, or start through `heliograph run`, "
            "which brings an embedded one"
        )
    return service_url(shared, name, settings.secret_key)


def require_free(name: str, listen: str, variable: str) -> None:
    """Raise ConfigurationError in one clear line when `host:port` cannot be listened on."""
    if listen.startswith("unix:"):
        return
    host, _, port = listen.rpartition(":")
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except (OSError, ValueError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        known = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        why = "the port is taken" if taken else known
        raise ConfigurationError(
            f"{name} cannot listen on {listen}: {why}; change {variable}"
        ) from error
