"""Generates the Python stubs of the protos into `gen/`, from nothing but PyPI packages.

`buf/validate/validate.proto` is taken from the protovalidate 1.2.0 source distribution, pinned by
hash; it is not copied into the repository. Run by `make protos`; does nothing while the protos are
those of the last time.
"""

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERATED = ROOT / "gen"
PROTOS = ROOT / "protos"
INCLUDED = GENERATED / "include"
VALIDATE_PROTO = "buf/validate/validate.proto"
SDIST = "protovalidate-1.2.0.tar.gz"
SDIST_SHA256 = "4cb9a5065f32abc9baf2cf25c5bd09a139f7dffb7b8692f636a8e3e6883bb9a2"


def main() -> int:
    sources = sorted(PROTOS.rglob("*.proto"))
    stamp = GENERATED / ".stamp"
    fingerprint = _fingerprint([*sources, Path(__file__)])
    if not (stamp.exists() and stamp.read_text() == fingerprint):
        stamp.unlink(missing_ok=True)
        _fetch_validate_proto()
        _compile(sources)
        stamp.write_text(fingerprint)
    _put_on_path()
    return 0


def _fingerprint(paths: list[Path]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in paths:
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


def _fetch_validate_proto() -> None:
    target = INCLUDED / VALIDATE_PROTO
    if target.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        source = ["--no-binary", "protovalidate", "--dest", folder, "protovalidate==1.2.0"]
        _run([*pip, *source])
        archive = Path(folder) / SDIST
        actual = hashlib.sha256(archive.read_bytes()).hexdigest()
        if actual != SDIST_SHA256:
            raise SystemExit(f"{SDIST}: SHA-256 is {actual}, not {SDIST_SHA256}; it is not used")
        with tarfile.open(archive) as tar:
            member = tar.extractfile(f"protovalidate-1.2.0/upstream/proto/{VALIDATE_PROTO}")
            if member is None:
                raise SystemExit(f"{SDIST}: {VALIDATE_PROTO} is missing")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(member.read())


def _compile(sources: list[Path]) -> None:
    shutil.rmtree(GENERATED / "heliograph", ignore_errors=True)
    shutil.rmtree(GENERATED / "buf", ignore_errors=True)
    well_known = resources.files("grpc_tools") / "_proto"
    includes = [f"-I{PROTOS}", f"-I{INCLUDED}", f"-I{well_known}"]
    kinds = ("python", "grpc_python", "mypy", "mypy_grpc")
    outputs = [f"--{kind}_out={GENERATED}" for kind in kinds]
    plugins = [f"--plugin={_script(name)}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", *includes, *plugins, *outputs]
    _run([*command, *map(str, sources)])
    messages = [f"--python_out={GENERATED}", f"--mypy_out={GENERATED}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *includes, *plugins, *messages]
    _run([*command, str(INCLUDED / VALIDATE_PROTO)])


def _run(command: list[str]) -> None:
    """Run quietly; what it printed is shown when it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}\nfailed: {' '.join(command)}")


def _script(name: str) -> str:
    return f"{name}={Path(sysconfig.get_path('scripts')) / name}"


def _put_on_path() -> None:
    """Makes `import heliograph…` work in this environment, wherever it is run from."""
    marker = Path(sysconfig.get_path("purelib")) / "heliograph-stubs.pth"
    line = f"{GENERATED}\n{ROOT / 'clients' / 'python'}\n"
    if not marker.exists() or marker.read_text() != line:
        marker.write_text(line)


if __name__ == "__main__":
    raise SystemExit(main())
