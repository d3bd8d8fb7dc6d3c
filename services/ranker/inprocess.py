"""The in-process backend: ONNX Runtime on the CPU, in threads of its own."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from services.ranker.backend import ModelRefused
from services.ranker.features import (
    HEADS,
    EventFacts,
    FeatureState,
    ItemTable,
    UserSignals,
    event_features,
    model_inputs,
    schema_hash,
    user_features,
)
from services.ranker.features.schema import Features
from services.ranker.manifest import MODEL_FILE, Manifest, file_sha256

PROVIDER = "CPUExecutionProvider"


class InProcessBackend:
    """One ONNX Runtime session for each loaded version."""

    def __init__(self, *, intra_op_threads: int, parallel_runs: int) -> None:
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = intra_op_threads
        self._options.log_severity_level = 3
        # Idle threads that spin take the cores from whatever else runs on the machine.
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._threads = ThreadPoolExecutor(parallel_runs, thread_name_prefix="onnxruntime")
        self._sessions: dict[str, ort.InferenceSession] = {}

    async def load(self, manifest: Manifest, folder: Path) -> None:
        """Check hashes and heads, open the model and try it. Raises ModelRefused."""
        if manifest.version not in self._sessions:
            loop = asyncio.get_running_loop()
            session = await loop.run_in_executor(self._threads, self._open, manifest, folder)
            self._sessions[manifest.version] = session

    async def score(self, version: str, inputs: Features) -> NDArray[np.float32]:
        """Scores [N, heads]."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _run, self._sessions[version], inputs)

    async def close(self) -> None:
        """Wait for the runs under way and forget the sessions."""
        await asyncio.to_thread(self._threads.shutdown)
        self._sessions.clear()

    def _open(self, manifest: Manifest, folder: Path) -> ort.InferenceSession:
        if manifest.schema_hash != schema_hash():
            raise ModelRefused(
                f"{manifest.version} reads features {manifest.schema_hash}, "
                f"this service makes {schema_hash()}"
            )
        if manifest.heads != HEADS:
            raise ModelRefused(f"{manifest.version} has other heads")
        path = folder / MODEL_FILE
        try:
            if file_sha256(path) != manifest.sha256:
                raise ModelRefused(f"{manifest.version}: {MODEL_FILE} has another SHA-256")
            session = ort.InferenceSession(path.read_bytes(), self._options, providers=[PROVIDER])
        except ModelRefused:
            raise
        except Exception as error:  # ONNX Runtime has an exception class for each cause
            raise ModelRefused(f"{manifest.version}: {MODEL_FILE} can't be opened") from error
        _try_out(manifest.version, session)
        return session


def _run(session: ort.InferenceSession, inputs: Features) -> NDArray[np.float32]:
    wanted = {each.name: inputs[each.name] for each in session.get_inputs()}
    scores: NDArray[np.float32] = session.run(["scores"], wanted)[0]
    return scores


def _try_out(version: str, session: ort.InferenceSession) -> None:
    """Score two events of a user without history. Raises ModelRefused."""
    items = ItemTable()
    users = user_features([FeatureState()], [UserSignals()], 0, items)
    events = event_features([EventFacts("a"), EventFacts("b")], 0, items)
    inputs = model_inputs(users, events, np.zeros(2, np.int32), items)
    try:
        scores = _run(session, inputs)
    except Exception as error:
        raise ModelRefused(f"{version} can't score a user without history") from error
    if scores.shape != (2, len(HEADS)) or not ((scores >= 0) & (scores <= 1)).all():
        raise ModelRefused(f"{version} answers something else than probabilities")
