"""Fixtures for all tests: an embedded Postgres, a fresh migrated database, running services.

The same tests run against services in the test's own process, in one process each
(`HELIOGRAPH_TEST_MODE=processes`), or already running elsewhere
(`HELIOGRAPH_TEST_ADDRESSES=candidate=host:port,policy=host:port`).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Protocol

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2
from pydantic import SecretStr

from services.runtime.channels import Peers
from services.runtime.database import Database
from services.runtime.migrations import create_database, drop_database, migrate
from services.runtime.postgres import EmbeddedPostgres
from services.runtime.roles import service_url
from services.runtime.settings import SERVICE_NAMES, Endpoint, RuntimeSettings
from services.runtime.system import System
from tests.ports import free_addresses

TEMPLATE = "heliograph_template"
START_SECONDS = 60.0
STOP_SECONDS = 20.0

OpenDatabase = Callable[[str], Database]


class RunningSystem(Protocol):
    """What a test sees of the services, wherever they run."""

    def address(self, name: str) -> str:
        """`host:port` of a service."""

    def channel(self, name: str) -> grpc.aio.Channel:
        """A channel to a service; it carries the simulated time of `with at(...)`."""


class StartSystem(Protocol):
    """`async with start_system("candidate", "policy", simulation=True) as system:`"""

    def __call__(
        self, *names: str, simulation: bool = False, environ: Mapping[str, str] = ...
    ) -> AbstractAsyncContextManager[RunningSystem]:
        """Start the services by name; `environ` holds settings, e.g. HELIOGRAPH_POLICY_…."""


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Log lines of services in this process are plain, as outside tests: colours and local
    variables take seconds for each exception."""
    renderer = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])


@pytest.fixture(scope="session")
def secret_key() -> SecretStr:
    """Secret key of the session's deployment; the roles' passwords follow from it."""
    return SecretStr(secrets.token_hex(32))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Admin URL of one embedded server for the whole session."""
    with tempfile.TemporaryDirectory(prefix="heliograph-test-") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.start()
        try:
            yield server.url()
        finally:
            server.remove()


@pytest.fixture(scope="session")
def template_database(postgres: str, secret_key: SecretStr) -> str:
    """Name of a database with every service's migrations, which nobody is connected to."""
    migrate(create_database(postgres, TEMPLATE), secret_key)
    return TEMPLATE


@pytest.fixture
def database_url(postgres: str, template_database: str) -> Iterator[str]:
    """Admin URL of a fresh, migrated database of this test alone."""
    name = f"test_{secrets.token_hex(6)}"
    yield create_database(postgres, name, template=template_database)
    drop_database(postgres, name)


@pytest.fixture
async def open_database(database_url: str, secret_key: SecretStr) -> AsyncIterator[OpenDatabase]:
    """Opens the test's database as a service: `open_database("policy")`."""
    opened: list[Database] = []

    def open_as(service: str) -> Database:
        opened.append(Database(service_url(database_url, service, secret_key)))
        return opened[-1]

    yield open_as
    for database in opened:
        await database.close()


@pytest.fixture
def start_system(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> StartSystem:
    """Starts services on a fresh database, each on a free port, and stops them at the end."""
    key: SecretStr = request.getfixturevalue("secret_key")
    return _starter(lambda: request.getfixturevalue("database_url"), key, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def start_shared_system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, secret_key: SecretStr
) -> Iterator[StartSystem]:
    """As `start_system`, for one system that all tests of a module share."""
    made: list[tuple[str, str]] = []

    def database_url() -> str:
        admin: str = request.getfixturevalue("postgres")
        template: str = request.getfixturevalue("template_database")
        made.append((admin, f"test_{secrets.token_hex(6)}"))
        return create_database(*made[-1], template=template)

    with pytest.MonkeyPatch.context() as patch:
        yield _starter(database_url, secret_key, tmp_path_factory.mktemp("shared"), patch)
    for admin, name in made:
        drop_database(admin, name)


def _starter(
    database_url: Callable[[], str],
    secret_key: SecretStr,
    folder: Path,
    patch: pytest.MonkeyPatch,
) -> StartSystem:
    """`database_url` is asked only when the services are started here."""
    addresses = os.environ.get("HELIOGRAPH_TEST_ADDRESSES")
    processes = os.environ.get("HELIOGRAPH_TEST_MODE") == "processes"

    @asynccontextmanager
    async def start(
        *names: str, simulation: bool = False, environ: Mapping[str, str] | None = None
    ) -> AsyncIterator[RunningSystem]:
        given = {
            "HELIOGRAPH_ENVIRONMENT": "test",
            "HELIOGRAPH_SIMULATION": str(simulation).lower(),
            "HELIOGRAPH_STATE_DIR": str(folder),
            # No text model: only its own tests read it, which takes each service a while.
            "HELIOGRAPH_MODEL_DIR": str(folder / "models"),
        }
        if not addresses:
            given["HELIOGRAPH_DATABASE_URL"] = database_url()
            given["HELIOGRAPH_SECRET_KEY"] = secret_key.get_secret_value()
        for name, value in (given | dict(environ or {})).items():
            patch.setenv(name, value)
        if addresses:
            running = _attached(dict(pair.split("=", 1) for pair in addresses.split(",")))
        elif processes:
            running = _processes(names, folder)
        else:
            running = _in_this_process(names)
        async with running as system:
            yield system

    return start


@asynccontextmanager
async def _in_this_process(names: Sequence[str]) -> AsyncIterator[RunningSystem]:
    settings = RuntimeSettings()
    any_port = {
        name: settings.endpoint(name).model_copy(
            update={"listen": "127.0.0.1:0", "metrics_port": 0}
        )
        for name in SERVICE_NAMES
    }
    binds = {name: import_module(f"services.{name}.bind").bind for name in names}
    async with System(binds, settings.model_copy(update=any_port)) as system:
        yield system


class _Addresses:
    """Services that run outside this process."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        endpoints = {name: Endpoint(address=at) for name, at in addresses.items()}
        self._settings = RuntimeSettings().model_copy(update=endpoints)
        self.peers = Peers(self._settings)

    def address(self, name: str) -> str:
        return self._settings.endpoint(name).target

    def channel(self, name: str) -> grpc.aio.Channel:
        return self.peers.channel(name)


@asynccontextmanager
async def _attached(addresses: Mapping[str, str]) -> AsyncIterator[RunningSystem]:
    """Wait until all addresses serve, by their health answers."""
    system = _Addresses(addresses)
    try:
        for name in addresses:
            check = system.channel(name).unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            answer = await check(
                health_pb2.HealthCheckRequest(), timeout=START_SECONDS, wait_for_ready=True
            )
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, name
        yield system
    finally:
        await system.peers.close()


@asynccontextmanager
async def _processes(names: Sequence[str], folder: Path) -> AsyncIterator[RunningSystem]:
    """One process for each service; their output goes to `<name>.log` in the folder."""
    addresses = dict(zip(names, free_addresses(len(names)), strict=True))
    environment = os.environ | {"HELIOGRAPH_OWNER_PID": str(os.getpid())}
    for name in SERVICE_NAMES:
        environment[f"HELIOGRAPH_{name.upper()}_METRICS_PORT"] = "0"
    for name, address in addresses.items():
        environment[f"HELIOGRAPH_{name.upper()}_LISTEN"] = address
    started = [_start_process(name, environment, folder) for name in names]
    try:
        async with _attached(addresses) as system:
            yield system
    finally:
        for process in started:
            process.terminate()
        for process in started:
            await asyncio.to_thread(process.wait, STOP_SECONDS)


def _start_process(
    name: str, environment: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("ab") as log:
        command = [sys.executable, "-m", f"services.{name}"]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)
