"""Peers of Rank as servers of this machine, each in an environment of its own.

An environment is made on first use, from the versions in `bench/peers/requirements`, with the NumPy
and ONNX Runtime of this one. Nothing is pinned to cores: a peer has those that the bench has.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from bench.peer_calls import Client, HttpClient, MlserverClient, TritonClient
from bench.peers.scoring import SETTING, Setting
from bench.peers.wire import Input
from bench.report import ROOT
from bench.service_process import free_address
from deploy.triton.render import model_inputs_of, render
from deploy.triton.server import ENVIRONMENT
from services.ranker.manifest import MODEL_FILE

STOP_SECONDS = 30.0
TRITON = "triton"


class PeerMissing(Exception):
    """A peer that can't be installed or started here; says why."""


@dataclass(frozen=True)
class Peer:
    """A server, and the settings of which the fastest is taken."""

    name: str
    package: str
    settings: Sequence[Setting]


@dataclass(frozen=True)
class Running:
    """A started server."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def has_ended(self) -> bool:
        """It isn't there any more."""
        return self.process.poll() is not None

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


ONE = Setting(workers=1, threads=2, calls=32, wait_ms=1)
TWO = Setting(workers=2, threads=1, calls=32, wait_ms=1)
PEERS = (
    Peer("bentoml", "bentoml", (ONE, TWO, replace(ONE, calls=64), replace(TWO, calls=64))),
    Peer("litserve", "litserve", (ONE, TWO, replace(ONE, wait_ms=5), replace(TWO, wait_ms=5))),
    Peer("mlserver", "mlserver", (ONE, TWO, replace(ONE, wait_ms=5), replace(TWO, wait_ms=5))),
    Peer("ray_serve", "ray", (ONE, TWO, replace(ONE, wait_ms=5), replace(TWO, wait_ms=5))),
    Peer(TRITON, "nvidia-pytriton", (ONE, TWO)),
)
"""BentoML waits as it thinks best. Triton runs each call alone (see triton_model.model), so that
only workers and threads matter to it."""


def requirements(name: str) -> Path:
    """The file with a peer's versions."""
    if name == TRITON:
        return ROOT / "deploy" / "triton" / "requirements.txt"
    return Path(__file__).parent / "peers" / "requirements" / f"{name}.txt"


def version_of(peer: Peer) -> str:
    """The version that its environment has."""
    lines = requirements(peer.name).read_text().splitlines()
    (found,) = (line for line in lines if line.startswith(f"{peer.package}=="))
    return found.partition("==")[2]


def environment(name: str, folder: Path) -> Path:
    """The peer's environment, made where it isn't there. Raises PeerMissing."""
    made = ENVIRONMENT if name == TRITON else folder / name
    if (made / ".ready").is_file():
        return made
    wanted = ["--requirement", str(requirements(name))]
    if name != TRITON:  # whose server takes no NumPy 2
        wanted += [f"{package}=={version(package)}" for package in ("numpy", "onnxruntime")]
    pip = [str(made / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    print(f"installing {name} into {made} (once)", flush=True)
    for command in (
        [sys.executable, "-m", "venv", str(made)],
        [*pip, "--disable-pip-version-check", *wanted],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or [f"{command} failed"]
            raise PeerMissing(f"{name} can't be installed: {lines[-1]}")
    (made / ".ready").touch()
    return made


@contextmanager
def serving(
    peer: Peer, setting: Setting, model: Path, environments: Path
) -> Iterator[tuple[Client, Running]]:
    """A peer that serves a folder of our model registry, started. Raises PeerMissing."""
    place = environment(peer.name, environments)
    with tempfile.TemporaryDirectory(prefix="heliograph-peer-") as name:
        start = _start_triton if peer.name == TRITON else _start_python
        started = start(peer.name, setting, model, place, Path(name))
        client, command, variables = started
        with process(command, variables, Path(name)) as running:
            yield client, running


def wire_inputs(model: Path) -> tuple[Input, ...]:
    """The inputs that the model of a folder reads, as they travel to peers."""
    return tuple(
        Input(
            each.name, each.dtype, each.shape, each.limit if isinstance(each.limit, str) else None
        )
        for each in model_inputs_of(model / MODEL_FILE)
    )


def _start_python(
    name: str, setting: Setting, model: Path, place: Path, folder: Path
) -> tuple[Client, Sequence[str], Mapping[str, str]]:
    address, inputs = free_address(), wire_inputs(model)
    port = int(address.rpartition(":")[2])
    told = {
        "model": str((model / MODEL_FILE).resolve()),
        "inputs": [asdict(each) for each in inputs],
        "port": port,
        "setting": asdict(setting),
    }
    variables = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_worker_niceness": "0",  # else its replicas give way to the client
        SETTING: json.dumps(told),
    }
    client = MlserverClient if name == "mlserver" else HttpClient
    return client(address, inputs), _command(name, place / "bin", folder, port, setting), variables


def _start_triton(
    name: str, setting: Setting, model: Path, place: Path, folder: Path
) -> tuple[Client, Sequence[str], Mapping[str, str]]:
    repository = folder / "repository"
    render(model, repository, instances=setting.workers, threads=setting.threads)
    address, command = triton_command(repository, folder)
    return TritonClient(address, wire_inputs(model), model.name), command, os.environ


def triton_command(repository: Path, folder: Path) -> tuple[str, Sequence[str]]:
    """Where a Triton server will listen that serves a rendered repository, and what starts it;
    `folder` is for its own files."""
    address, metrics = free_address(), free_address()
    options = {
        "--repository": str(repository),
        "--work": str(folder / "backends"),
        "--grpc-port": address.rpartition(":")[2],
        "--metrics-port": metrics.rpartition(":")[2],
    }
    command = [sys.executable, "-m", "deploy.triton.server"]
    for option, value in options.items():
        command += [option, value]
    return address, command


def _command(name: str, programs: Path, folder: Path, port: int, setting: Setting) -> list[str]:
    python = str(programs / "python")
    if name == "bentoml":
        service = "bench.peers.bentoml_service:Ranker"
        return [
            python,
            "-m",
            "bentoml",
            "serve",
            service,
            "--host",
            "127.0.0.1",
            "--port",
            f"{port}",
        ]
    if name == "litserve":
        return [python, "-m", "bench.peers.litserve_server"]
    if name == "ray_serve":
        return [python, "-m", "bench.peers.ray_application"]
    _write_mlserver(folder, port, setting)
    return [str(programs / "mlserver"), "start", str(folder)]


def _write_mlserver(folder: Path, port: int, setting: Setting) -> None:
    """Its settings, in the files that it reads. Its inference processes batch for themselves, so
    that one of them is no better than none: threads run the model."""
    ports = [int(free_address().rpartition(":")[2]) for _ in range(2)]
    server = {
        "host": "127.0.0.1",
        "grpc_port": port,
        "http_port": ports[0],
        "metrics_port": ports[1],
        "parallel_workers": 0,
        "debug": False,
    }
    model = {
        "name": "ranker",
        "implementation": "bench.peers.mlserver_runtime.Ranker",
        "max_batch_size": setting.calls,
        "max_batch_time": setting.wait_ms / 1000,
    }
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))


@contextmanager
def process(
    command: Sequence[str], variables: Mapping[str, str], folder: Path
) -> Iterator[Running]:
    """A started server, ended at the end; its log is in the folder."""
    log = folder / "log"
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, env=dict(variables), stdout=output, stderr=output, cwd=ROOT,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield Running(started, log)
    finally:
        started.terminate()
        with suppress(subprocess.TimeoutExpired):
            started.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)  # what it left behind
        started.wait()
