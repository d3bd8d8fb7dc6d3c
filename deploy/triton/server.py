"""Starts the Triton server that the wheel nvidia-pytriton carries, on this machine's CPU.

    python -m deploy.triton.server --repository out/triton

The wheel is in an environment of its own (`make triton` makes it). Triton finds its Python backend
in a folder of ours that links to the wheel's files, and the interpreter of that environment by
PATH: the stub ignores PYTHONPATH.
"""

import os
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from deploy.triton.shared_memory import claim, sweep

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".triton-venv"
_STUB = "triton_python_backend_stub"


class ServerMissing(click.ClickException):
    """There is no Triton server to start; says what to do."""


@dataclass(frozen=True)
class Ports:
    """Where the server listens, on this machine only."""

    grpc: int = 8001
    metrics: int = 8002


@dataclass(frozen=True)
class Certificates:
    """PEM files: the server's certificate and key, and the authority of its callers'."""

    certificate: Path
    key: Path
    authority: Path

    @property
    def arguments(self) -> list[str]:
        """What makes the server take callers with a certificate only."""
        return [
            "--grpc-use-ssl-mutual=true",
            f"--grpc-server-cert={self.certificate}",
            f"--grpc-server-key={self.key}",
            f"--grpc-root-cert={self.authority}",
        ]


def installed(environment: Path = ENVIRONMENT) -> Path:
    """The server's folder in its environment, whole. Raises ServerMissing."""
    found = list(environment.glob("lib/python3.*/site-packages/pytriton/tritonserver"))
    if found and (environment / ".ready").is_file():
        return found[0]
    raise ServerMissing(f"no Triton server in {environment}: `make triton` installs it")


def backends(server: Path, python: str, folder: Path) -> Path:
    """Link the Python backend's files and the stub for a Python like `3.11` into `folder`.

    Raises ServerMissing where the wheel has no stub for it.
    """
    stub = server / "python_backend_stubs" / python / _STUB
    if not stub.is_file():
        raise ServerMissing(f"the Triton server has no stub for Python {python}")
    made = folder / "python"
    made.mkdir(parents=True, exist_ok=True)
    for file in (*(server / "backends" / "python").glob("*.*"), stub):
        link = made / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file)
    return folder


def command(
    repository: Path,
    work: Path,
    ports: Ports,
    regions: str,
    certificates: Certificates | None = None,
    environment: Path = ENVIRONMENT,
) -> tuple[list[str], Mapping[str, str]]:
    """Arguments and environment variables that start the server; `work` keeps the links, `regions`
    is what the names of its regions of shared memory begin with. Plain text without certificates.

    Models are loaded when the ranker asks for them. Raises ServerMissing.
    """
    server = installed(environment)
    python = server.parents[2].name.removeprefix("python")
    arguments = [
        str(server / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backends(server, python, work)}",
        f"--backend-config=python,shm-region-prefix-name={regions}",
        "--model-control-mode=explicit",
        "--exit-timeout-secs=10",
        "--allow-http=false",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={ports.grpc}",
        "--metrics-address=127.0.0.1",
        f"--metrics-port={ports.metrics}",
        "--disable-auto-complete-config",
        *(certificates.arguments if certificates else ()),
    ]
    libraries = (str(sysconfig.get_config_var("LIBDIR")), os.environ.get("LD_LIBRARY_PATH", ""))
    variables = os.environ | {
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
    }
    variables.pop("PYTHONPATH", None)
    return arguments, variables


def run(arguments: Sequence[str], variables: Mapping[str, str]) -> None:
    """Become the server."""
    os.execve(arguments[0], list(arguments), dict(variables))


@click.command()
@click.option("--repository", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--work", default=ROOT / "out" / "triton-backends", type=click.Path(path_type=Path))
@click.option("--grpc-port", default=Ports.grpc, show_default=True)
@click.option("--metrics-port", default=Ports.metrics, show_default=True)
@click.option(
    "--tls",
    nargs=3,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="CERTIFICATE KEY AUTHORITY",
    help="PEM files: serve by TLS, to callers whose certificates the authority signed.",
)
def main(
    repository: Path,
    work: Path,
    grpc_port: int,
    metrics_port: int,
    tls: tuple[Path, Path, Path] | None,
) -> None:
    """Serve a rendered model repository until interrupted."""
    if left := sweep():
        click.echo(f"removed {left} regions of shared memory that a killed server left", err=True)
    ports = Ports(grpc_port, metrics_port)
    certificates = Certificates(*(path.resolve() for path in tls)) if tls else None
    run(*command(repository.resolve(), work.resolve(), ports, claim(), certificates))


if __name__ == "__main__":
    main()
