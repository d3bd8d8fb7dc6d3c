"""The folder of a fitted model that the index serves in place of a fit of its own."""

import asyncio
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np

from services.candidate.models import CandidateModel, ModelFolderError, Side, load
from services.candidate.models.folder import MANIFEST
from services.candidate.sources.arrays import NONE, Rows
from services.runtime import metrics
from services.runtime.logs import Logger

Files = Mapping[str, tuple[int, int]]
"""Size in bytes and time of change in nanoseconds, by name."""
LEAST_KNOWN = 0.01
"""Share of the stored users, and of the items, that a model of theirs knows at the very least."""


class ModelFolder:
    """Looks for another model: when the manifest changes, or size or time of any file. One that is
    cut short, altered or of another version is refused, and said so in the log once; whoever serves
    goes on with the last good one."""

    def __init__(self, path: Path, log: Logger) -> None:
        self._path = path
        self._log = log
        self._seen: tuple[str, Files] | None = None
        self.version = ""
        """SHA-256 of the manifest of the last good model, in hexadecimal; empty: none yet."""
        self._refused = metrics.counter(
            "candidate", "models_refused", "", "Model folders that could not be served."
        )
        self._strange = metrics.counter(
            "candidate",
            "models_of_strangers",
            "",
            "Models served that know less than 1 % of the stored users or items.",
            ["side"],
        )

    async def newer(self) -> CandidateModel | None:
        """The model, if the folder holds another than at the last call, and a good one."""
        return await asyncio.to_thread(self._newer)

    def compare(self, known: Mapping[Side, Rows]) -> None:
        """Warn of a model that hardly knows the stored users or items: probably it was made of
        other ids. `known`: the model's row of each stored one, or NONE."""
        for side, rows in known.items():
            count = int(np.count_nonzero(rows != NONE))
            if count < LEAST_KNOWN * len(rows):
                self._strange.labels(side).inc()
                self._log.warning(
                    "model_knows_few",
                    folder=str(self._path),
                    side=side,
                    known=count,
                    stored=len(rows),
                    meaning="were the model's ids written as those of the service are?",
                )

    def _newer(self) -> CandidateModel | None:
        try:
            manifest = (self._path / MANIFEST).read_bytes()
        except OSError as error:
            manifest = str(error).encode()
        version = sha256(manifest).hexdigest()
        seen = version, self._files()
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            model = load(self._path)
        except ModelFolderError as error:
            self._refused.inc()
            self._log.error("model_refused", folder=str(self._path), reason=str(error))
            return None
        if version == self.version:
            return None  # the one that is served, whole
        self.version = version
        self._log.info("model_served", folder=str(self._path))
        return model

    def _files(self) -> Files:
        try:
            found = {entry.name: entry.stat() for entry in os.scandir(self._path)}
        except OSError:
            return {}
        return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}
