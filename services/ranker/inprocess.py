"""The in-process backend: ONNX Runtime on the CPU, in threads of its own."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from services.ranker.backend import ModelRefused
from services.ranker.features.schema import Features
from services.ranker.inputs import check_inputs
from services.ranker.manifest import MODEL_FILE, Manifest
from services.ranker.triton_model.sessions import CPU, session_options


class InProcessBackend:
    """One ONNX Runtime session for each loaded version."""

    def __init__(self, *, intra_op_threads: int, parallel_runs: int) -> None:
        self._options = session_options(intra_op_threads)
        # One thread more: calls, which take `parallel_runs`, don't wait for what no call asked for.
        self._threads = ThreadPoolExecutor(parallel_runs + 1, thread_name_prefix="onnxruntime")
        self._sessions: dict[str, ort.InferenceSession] = {}

    async def load(self, manifest: Manifest, folder: Path) -> str:
        """Open the model. Raises ModelRefused."""
        if manifest.version not in self._sessions:
            self._sessions[manifest.version] = await asyncio.to_thread(self._open, folder)
        return MODEL_FILE

    async def score(self, version: str, inputs: Features) -> NDArray[np.float32]:
        """Scores [N, heads]. Raises KeyError and BadInputs."""
        return await self._answer(version, inputs, "scores")

    async def logits(self, version: str, inputs: Features) -> NDArray[np.float32]:
        """Logits [N, heads]. Raises as `score`."""
        return await self._answer(version, inputs, "logits")

    async def unload(self, version: str, idle: timedelta = timedelta(0)) -> None:
        """Forget the session; runs under way end with it."""
        self._sessions.pop(version, None)

    async def close(self) -> None:
        """Wait for the runs under way and forget the sessions."""
        await asyncio.to_thread(self._threads.shutdown)
        self._sessions.clear()

    async def _answer(self, version: str, inputs: Features, output: str) -> NDArray[np.float32]:
        session = self._sessions[version]
        check_inputs(inputs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _run, session, inputs, output)

    def _open(self, folder: Path) -> ort.InferenceSession:
        try:
            model = (folder / MODEL_FILE).read_bytes()
            return ort.InferenceSession(model, self._options, providers=[CPU])
        except Exception as error:  # ONNX Runtime has an exception class for each cause
            raise ModelRefused(f"{folder.name}: {MODEL_FILE} can't be opened") from error


def _run(session: ort.InferenceSession, inputs: Features, output: str) -> NDArray[np.float32]:
    wanted = {each.name: inputs[each.name] for each in session.get_inputs()}
    answer: NDArray[np.float32] = session.run([output], wanted)[0]
    return answer
