"""The folder of a fitted model that the index serves in place of a fit of its own."""

import asyncio
from hashlib import sha256
from pathlib import Path

from services.candidate.models import CandidateModel, ModelFolderError, load
from services.candidate.models.folder import MANIFEST
from services.runtime import metrics
from services.runtime.logs import Logger


class ModelFolder:
    """Looks for another model. One that is cut short, altered or of another version is refused, and
    said so in the log once; whoever serves goes on with the last good one."""

    def __init__(self, path: Path, log: Logger) -> None:
        self._path = path
        self._log = log
        self._seen = b""
        self.version = ""
        """SHA-256 of the manifest of the last good model, in hexadecimal; empty: none yet."""
        self._refused = metrics.counter(
            "candidate", "models_refused", "", "Model folders that could not be served."
        )

    async def newer(self) -> CandidateModel | None:
        """The model, if the folder holds another than at the last call, and a good one."""
        return await asyncio.to_thread(self._newer)

    def _newer(self) -> CandidateModel | None:
        try:
            manifest = (self._path / MANIFEST).read_bytes()
        except OSError as error:
            manifest = str(error).encode()
        seen = sha256(manifest).digest()
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            model = load(self._path)
        except ModelFolderError as error:
            self._refused.inc()
            self._log.error("model_refused", folder=str(self._path), reason=str(error))
            return None
        self.version = seen.hex()
        self._log.info("model_served", folder=str(self._path))
        return model
