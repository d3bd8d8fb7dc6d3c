"""The in-process backend: ONNX Runtime on the CPU, in threads of its own."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from services.ranker.acceptance import check_folder, check_trial, trial
from services.ranker.backend import ModelRefused
from services.ranker.features.schema import Features
from services.ranker.inputs import check_inputs
from services.ranker.manifest import MODEL_FILE, Manifest
from services.ranker.triton_model.sessions import CPU, session_options


class InProcessBackend:
    """One ONNX Runtime session for each loaded version."""

    def __init__(self, *, intra_op_threads: int, parallel_runs: int) -> None:
        self._options = session_options(intra_op_threads)
        self._threads = ThreadPoolExecutor(parallel_runs, thread_name_prefix="onnxruntime")
        self._sessions: dict[str, ort.InferenceSession] = {}

    async def load(self, manifest: Manifest, folder: Path) -> None:
        """Check hashes and heads, open the model and try it. Raises ModelRefused."""
        if manifest.version not in self._sessions:
            loop = asyncio.get_running_loop()
            session = await loop.run_in_executor(self._threads, self._open, manifest, folder)
            self._sessions[manifest.version] = session

    async def score(self, version: str, inputs: Features) -> NDArray[np.float32]:
        """Scores [N, heads]. Raises KeyError and BadInputs."""
        session = self._sessions[version]
        check_inputs(inputs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _run, session, inputs)

    async def close(self) -> None:
        """Wait for the runs under way and forget the sessions."""
        await asyncio.to_thread(self._threads.shutdown)
        self._sessions.clear()

    def _open(self, manifest: Manifest, folder: Path) -> ort.InferenceSession:
        check_folder(manifest, folder)
        version = manifest.version
        try:
            model = (folder / MODEL_FILE).read_bytes()
            session = ort.InferenceSession(model, self._options, providers=[CPU])
        except Exception as error:  # ONNX Runtime has an exception class for each cause
            raise ModelRefused(f"{version}: {MODEL_FILE} can't be opened") from error
        try:
            scores = _run(session, trial())
        except Exception as error:
            raise ModelRefused(f"{version} can't score a user without history") from error
        check_trial(version, scores)
        return session


def _run(session: ort.InferenceSession, inputs: Features) -> NDArray[np.float32]:
    wanted = {each.name: inputs[each.name] for each in session.get_inputs()}
    scores: NDArray[np.float32] = session.run(["scores"], wanted)[0]
    return scores
