"""The candidate service in a process of its own, on its own embedded Postgres, for benches."""

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
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc, catalogue_pb2
from heliograph.type.v1alpha1 import event_pb2, notification_pb2
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


@dataclass(frozen=True, slots=True)
class BenchService:
    """A running candidate service."""

    stub: candidate_pb2_grpc.CandidateServiceStub
    channel: grpc.Channel
    metrics_port: int
    address: str
    pid: int

    def peak_memory(self) -> int:
        """The most bytes that the service has held in memory so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    def cpu_seconds(self) -> float:
        """Processor time that the service has taken so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def register(self, name: str) -> None:
        """Put an event type with the ranked route."""
        push = notification_pb2.CHANNEL_PUSH
        template = event_pb2.Template(channel=push, title="{{ item.title }}")
        kind = event_pb2.EventType(
            name=name, route=event_pb2.ROUTE_RANKED, channels=[push], templates=[template]
        )
        self.stub.PutEventType(catalogue_pb2.PutEventTypeRequest(event_type=kind))

    def sums(self, metric: str, label: str) -> dict[str, float]:
        """The sums of a histogram by one of its labels; empty when the service has none such."""
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            text = answer.read().decode()
        return {
            sample.labels.get(label, ""): sample.value
            for family in text_string_to_metric_families(text)
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
            yield BenchDatabase(url, key, Path(folder))
        finally:
            server.remove()


@contextmanager
def candidate_service(
    database: BenchDatabase, environ: Mapping[str, str] | None = None
) -> Iterator[BenchService]:
    """The service, ready to be called; its log is in the database's folder. Raises RuntimeError
    when it doesn't start."""
    address, metrics_port = f"127.0.0.1:{_free_port()}", _free_port()
    environment = {
        **os.environ,
        "HELIOGRAPH_ENVIRONMENT": "test",
        "HELIOGRAPH_DATABASE_URL": database.url,
        "HELIOGRAPH_SECRET_KEY": database.secret_key,
        "HELIOGRAPH_STATE_DIR": str(database.folder),
        "HELIOGRAPH_OWNER_PID": str(os.getpid()),
        "HELIOGRAPH_CANDIDATE_LISTEN": address,
        "HELIOGRAPH_CANDIDATE_METRICS_PORT": str(metrics_port),
        **(environ or {}),
    }
    log = database.folder / "candidate.log"
    with log.open("ab") as output:
        command = [sys.executable, "-m", "services.candidate"]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        with grpc.insecure_channel(address) as channel:
            _await_serving(channel, process, log)
            stub = candidate_pb2_grpc.CandidateServiceStub(channel)
            yield BenchService(stub, channel, metrics_port, address, process.pid)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _await_serving(channel: grpc.Channel, process: subprocess.Popen[bytes], log: Path) -> None:
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
    raise RuntimeError(f"candidate did not start:\n{tail}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
