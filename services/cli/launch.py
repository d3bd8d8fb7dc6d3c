"""Starts the whole system on one machine: Postgres, migrations, five processes under honcho.

Everything ends with this process, however it ends: services watch HELIOGRAPH_OWNER_PID, and the
embedded Postgres dies with its parent.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2
from sqlalchemy import make_url

from services.runtime import tls
from services.runtime.channels import channel_options
from services.runtime.migrations import drop_database, migrate
from services.runtime.postgres import EmbeddedPostgres
from services.runtime.server import require_free
from services.runtime.settings import SERVICE_NAMES, ConfigurationError, RuntimeSettings

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05


@contextmanager
def database_server(settings: RuntimeSettings) -> Iterator[str]:
    """Admin URL of the database: yours by HELIOGRAPH_DATABASE_URL, else an embedded server that
    runs while the context is open. Raises PostgresError when that can't start."""
    given = settings.database_url.get_secret_value()
    if given:
        yield given
        return
    user = settings.postgres_user or None
    with EmbeddedPostgres(settings.state_dir / "postgres", user=user) as server:
        yield server.url("heliograph")


def prepare_database(admin_url: str, settings: RuntimeSettings, *, fresh: bool = False) -> None:
    """Bring roles and schemas to the newest version; `fresh` empties the database first."""
    if fresh:
        name = make_url(admin_url).database
        if name is None:
            raise ConfigurationError("HELIOGRAPH_DATABASE_URL names no database")
        drop_database(admin_url, name)
    migrate(admin_url, settings.with_secret_key().secret_key)


def replay_url(admin_url: str) -> str:
    """The replay's own database on the same server, so that it never touches yours."""
    url = make_url(admin_url)
    name = f"{url.database or 'heliograph'}_replay"
    return url.set(database=name).render_as_string(hide_password=False)


def addresses(settings: RuntimeSettings) -> dict[str, str]:
    """Where each service is reached."""
    return {name: settings.endpoint(name).target for name in SERVICE_NAMES}


def require_free_ports(settings: RuntimeSettings) -> None:
    """Raise ConfigurationError, naming the setting to change, when a port is taken."""
    for name in SERVICE_NAMES:
        endpoint = settings.endpoint(name)
        prefix = f"HELIOGRAPH_{name.upper()}"
        require_free(name, endpoint.listen, f"{prefix}_LISTEN")
        metrics = f"{settings.metrics_host}:{endpoint.metrics_port}"
        require_free(name, metrics, f"{prefix}_METRICS_PORT")


@contextmanager
def services(
    admin_url: str,
    settings: RuntimeSettings,
    *,
    simulation: bool = False,
    log_file: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The five services as processes, ready to be called; yields their process runner.

    Their output goes to `log_file`, or to this process's output. Raises ConfigurationError when a
    port is taken or a service does not start.
    """
    require_free_ports(settings)
    environment = _environment(admin_url, settings, simulation)
    command = [sys.executable, "-m", "honcho", "--procfile", str(ROOT / "Procfile"), "start"]
    output = None if log_file is None else log_file.open("wb")
    try:
        runner = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,  # the terminal's Ctrl-C is for us, who end it in order
        )
        try:
            _await_serving(runner, settings, log_file)
            yield runner
        finally:
            _stop(runner)
    finally:
        if output is not None:
            output.close()


@contextmanager
def replay_services(admin_url: str, settings: RuntimeSettings) -> Iterator[dict[str, str]]:
    """The five services in simulation mode on an empty replay database; yields their addresses.

    Their output goes to `services.log` in the state folder.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    url = replay_url(admin_url)
    prepare_database(url, settings, fresh=True)
    log_file = settings.state_dir / "services.log"
    with services(url, settings, simulation=True, log_file=log_file):
        yield addresses(settings)


def _environment(admin_url: str, settings: RuntimeSettings, simulation: bool) -> Mapping[str, str]:
    return {
        **os.environ,
        "PYTHON": sys.executable,
        "PYTHONUNBUFFERED": "1",
        "HELIOGRAPH_DATABASE_URL": admin_url,
        "HELIOGRAPH_STATE_DIR": str(settings.state_dir.resolve()),
        "HELIOGRAPH_SIMULATION": "true" if simulation else "false",
        "HELIOGRAPH_OWNER_PID": str(os.getpid()),
    }


def _await_serving(
    runner: subprocess.Popen[bytes], settings: RuntimeSettings, log_file: Path | None
) -> None:
    deadline = time.monotonic() + START_SECONDS
    waiting = dict(addresses(settings))
    while waiting:
        if runner.poll() is not None or time.monotonic() > deadline:
            where = f"; see {log_file}" if log_file else ""
            tail = _tail(log_file)
            raise ConfigurationError(f"{', '.join(waiting)} did not start{where}{tail}")
        for name, address in list(waiting.items()):
            if _serving(address, settings):
                del waiting[name]
        time.sleep(POLL_SECONDS)


def _tail(log_file: Path | None) -> str:
    if log_file is None:
        return ""
    lines = log_file.read_text(errors="replace").splitlines()[-15:]
    return "".join(f"\n  {line}" for line in lines)


def _serving(address: str, settings: RuntimeSettings) -> bool:
    with open_channel(address, settings) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(), timeout=1.0)
        except grpc.RpcError:
            return False
    serving: bool = answer.status == health_pb2.HealthCheckResponse.SERVING
    return serving


def open_channel(address: str, settings: RuntimeSettings) -> grpc.Channel:
    """A blocking channel for the command line, with TLS where it is set."""
    credentials, options = tls.channel_credentials(settings), channel_options(settings)
    if credentials is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, credentials, options)


def _stop(runner: subprocess.Popen[bytes]) -> None:
    if runner.poll() is None:
        runner.send_signal(signal.SIGTERM)
        try:
            runner.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            runner.kill()
            runner.wait()
