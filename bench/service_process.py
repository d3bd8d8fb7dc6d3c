"""Services in processes of their own, on their own embedded Postgres, for benches."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import grpc
from grpc_health.v1 import health_pb2
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from services.runtime.migrations import create_database, migrate
from services.runtime.postgres import EmbeddedPostgres

START_SECONDS = 900.0
"""A million users take minutes to load."""
STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class BenchDatabase:
    """A migrated database."""

    url: str
    """Of its superuser."""
    secret_key: str
    folder: Path
    pid: int
    """Of the server's first process."""

    def cpu_seconds(self) -> float:
        """Processor time that the server has taken so far, in all of its processes."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return cpu_seconds(self.pid, of_ended=True) + sum(
            cpu_seconds(int(child)) for child in children
        )


@dataclass(frozen=True)
class ServiceProcess:
    """A running service."""

    channel: grpc.Channel
    metrics_port: int
    address: str
    pid: int

    def memory(self) -> int:
        """Bytes that the service holds in memory now."""
        return held_bytes(self.pid)

    def peak_memory(self) -> int:
        """The most bytes that the service has held in memory so far."""
        return most_held_bytes(self.pid)

    def cpu_seconds(self) -> float:
        """Processor time that the service has taken so far."""
        return cpu_seconds(self.pid)

    def metrics(self) -> str:
        """What it answers at `/metrics`."""
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            text: str = answer.read().decode()
        return text

    def sums(self, metric: str, label: str) -> dict[str, float]:
        """The sums of a histogram by one of its labels; empty when the service has none such."""
        return {
            sample.labels.get(label, ""): sample.value
            for family in text_string_to_metric_families(self.metrics())
            for sample in family.samples
            if sample.name == f"{metric}_sum"
        }


@contextmanager
def bench_database() -> Iterator[BenchDatabase]:
    """An empty database that is removed at the end."""
    key = secrets.token_hex(32)
    with tempfile.TemporaryDirectory(prefix="heliograph-bench-") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.start()
        try:
            url = create_database(server.url(), "bench")
            migrate(url, SecretStr(key))
            assert server.pid is not None
            yield BenchDatabase(url, key, Path(folder), server.pid)
        finally:
            server.remove()


@contextmanager
def service_process(
    name: str, database: BenchDatabase, environ: Mapping[str, str] | None = None
) -> Iterator[ServiceProcess]:
    """A service, ready to be called; its log is in the database's folder. Raises RuntimeError when
    it doesn't start."""
    prefix = f"HELIOGRAPH_{name.upper()}"
    environment = {
        **os.environ,
        "HELIOGRAPH_ENVIRONMENT": "test",
        "HELIOGRAPH_DATABASE_URL": database.url,
        "HELIOGRAPH_SECRET_KEY": database.secret_key,
        "HELIOGRAPH_STATE_DIR": str(database.folder),
        "HELIOGRAPH_OWNER_PID": str(os.getpid()),
        f"{prefix}_LISTEN": free_address(),
        f"{prefix}_METRICS_PORT": free_address().rpartition(":")[2],
        **(environ or {}),
    }
    address = environment[f"{prefix}_LISTEN"]
    log = database.folder / f"{name}.log"
    with log.open("ab") as output:
        command = [sys.executable, "-m", f"services.{name}"]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        with grpc.insecure_channel(address) as channel:
            _await_serving(name, channel, process, log)
            port = int(environment[f"{prefix}_METRICS_PORT"])
            yield ServiceProcess(channel, port, address, process.pid)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def cpu_seconds(pid: int, *, of_ended: bool = False) -> float:
    """Processor time that a process has taken so far, with or without that of its children that
    have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if of_ended else 13])) / os.sysconf("SC_CLK_TCK")


def held_bytes(pid: int) -> int:
    """What a process holds in memory now."""
    return _status(pid, "VmRSS")


def most_held_bytes(pid: int) -> int:
    """The most that a process has held in memory so far."""
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def free_address() -> str:
    """An address of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _await_serving(
    name: str, channel: grpc.Channel, process: subprocess.Popen[bytes], log: Path
) -> None:
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    waited = 0.0
    while process.poll() is None and waited < START_SECONDS:
        try:
            answer = check(health_pb2.HealthCheckRequest(), timeout=1.0, wait_for_ready=True)
        except grpc.RpcError:
            waited += 1.0
            continue
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise RuntimeError(f"{name} did not start:\n{tail}")
