"""A real Triton server for tests, where `make triton` or `make test` installed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from deploy.triton.server import ROOT, Ports, ServerMissing, installed
from deploy.triton.shared_memory import FOLDER
from tests.ports import free_addresses

START_SECONDS = 30
POLL_SECONDS = 0.05
FEW_BUCKETS = ((1, 32, 16), (8, 160, 64), (128, 2048, 64))
"""Enough to meet each way of padding, and soon warm."""


class TritonProcess:
    """One server over one repository, at an address that outlives restarts."""

    def __init__(self, folder: Path, tls: Sequence[Path] = ()) -> None:
        """Skips the test where there is no server. `tls`: certificate, key and authority."""
        try:
            installed()
        except ServerMissing as error:
            pytest.skip(error.message)
        self.repository = folder / "repository"
        self.repository.mkdir()
        self._work = folder / "backends"
        self._log = folder / "triton.log"
        grpc, metrics = (int(each.rpartition(":")[2]) for each in free_addresses(2))
        self._ports = Ports(grpc, metrics)
        self._tls = [str(path) for path in tls]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Of its gRPC endpoint."""
        return f"127.0.0.1:{self._ports.grpc}"

    @property
    def metrics(self) -> str:
        """Where its metrics are read."""
        return f"http://127.0.0.1:{self._ports.metrics}/metrics"

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._process is not None

    def start(self) -> None:
        """Start without any model loaded, and wait until it answers."""
        self.launch()
        ends = time.monotonic() + START_SECONDS
        with self._client() as client:
            while not _ready(client):
                assert time.monotonic() < ends, self._log.read_text()
                time.sleep(POLL_SECONDS)

    def _client(self) -> InferenceServerClient:
        if not self._tls:
            return InferenceServerClient(self.address)
        certificate, key, authority = self._tls
        return InferenceServerClient(
            self.address,
            ssl=True,
            root_certificates=authority,
            private_key=key,
            certificate_chain=certificate,
        )

    def launch(self) -> None:
        """Start, and don't wait."""
        options = {
            "--repository": self.repository,
            "--work": self._work,
            "--grpc-port": self._ports.grpc,
            "--metrics-port": self._ports.metrics,
        }
        command = [sys.executable, "-m", "deploy.triton.server"]
        for name, value in options.items():
            command += [name, str(value)]
        if self._tls:
            command += ["--tls", *self._tls]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )

    def regions(self) -> list[Path]:
        """Its regions of shared memory."""
        assert self._process is not None
        arguments = Path(f"/proc/{self._process.pid}/cmdline").read_text().split("\0")
        (prefix,) = (each.split("=")[-1] for each in arguments if "shm-region-prefix" in each)
        return [path for path in FOLDER.glob(f"{prefix}*") if path.stat().st_size]

    def kill(self) -> None:
        """As if the machine had gone: with the processes in which its models run."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(START_SECONDS)
            self._process = None

    def stop(self) -> None:
        """Stop in order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_SECONDS)
            self._process = None


def _ready(client: InferenceServerClient) -> bool:
    try:
        return bool(client.is_server_ready())
    except InferenceServerException:
        return False
