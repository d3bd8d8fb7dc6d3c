"""Checkpoints: the state of a training run in one file, replaced in one step."""

import os
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from services.ranker.features.schema import schema_hash
from services.ranker.manifest import file_sha256

CHECKPOINT_FILE = "checkpoint.pt"
EVERY_S = 30.0


def run_hash(logs: Sequence[Path], config: object) -> str:
    """Names what determines a run: the logs' bytes, the configuration, features and torch."""
    facts = ([file_sha256(path) for path in logs], repr(config), schema_hash(), torch.__version__)
    return sha256(repr(facts).encode()).hexdigest()


class Checkpoint:
    """Keeps the newest state of one run. `every_s`: seconds between two writes."""

    def __init__(self, path: Path, run: str, every_s: float = EVERY_S) -> None:
        self._path, self._run, self._every_s = path, run, every_s
        self._written = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state that was written last; None when there is none of this run, or the file can't
        be read."""
        try:
            kept = torch.load(self._path, weights_only=True)
        except Exception:  # torch and pickle raise what they like for a damaged file
            return None
        fits = isinstance(kept, dict) and kept.get("run") == self._run
        return kept["state"] if fits else None

    @property
    def is_due(self) -> bool:
        """Whether the last write is long enough ago."""
        return time.monotonic() - self._written >= self._every_s

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the file: a reader, or a run after a crash, finds the old state or the new."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        with part.open("wb") as file:
            torch.save({"run": self._run, "state": dict(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)
        self._written = time.monotonic()

    def remove(self) -> None:
        """Forget the run, once its model is written."""
        self._path.unlink(missing_ok=True)
