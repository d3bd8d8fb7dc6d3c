"""The Triton backend: models run in a Triton server, one Triton model for each version."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from services.ranker.backend import ModelRefused
from services.ranker.features import HEADS, Features
from services.ranker.inputs import check_inputs
from services.ranker.manifest import Manifest
from services.runtime import calls, metrics
from services.runtime.errors import Unavailable
from services.runtime.retries import RetryBudget, pause_s

LOAD_PATIENCE = timedelta(minutes=2)
"""Loading opens and warms every bucket, on a GPU with the capture of its graph."""
_SHARE_OF_DEADLINE = 0.9
"""The rest is for telling the caller."""
_LEAST_S = 0.001
RETRIES_IN_A_BURST = 20.0
_DOWN = {"StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"}
_UNKNOWN = "StatusCode.NOT_FOUND"
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.keepalive_time_ms", 30000),
    ("grpc.keepalive_timeout_ms", 5000),
]

Answer = TypeVar("Answer")


class TritonBackend:
    """A client of Triton. Retries while Triton is down, within the deadline of the call."""

    def __init__(
        self,
        address: str,
        patience: timedelta,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """`patience`: how long a call without a deadline waits. `credentials`: None for plain
        text."""
        self._address = address
        self._patience_s = patience.total_seconds()
        self._client = InferenceServerClient(address, creds=credentials, channel_args=_OPTIONS)
        self._loaded: dict[str, Manifest] = {}
        self._configs: dict[str, Any] = {}
        """Triton's configuration of each version."""
        self._budget = RetryBudget(RETRIES_IN_A_BURST)
        self._retries = metrics.counter(
            "ranker", "triton_retries", "", "Calls to Triton tried again."
        )

    async def load(self, manifest: Manifest, folder: Path) -> str:
        """Have Triton load the version from its own repository.

        Raises ModelRefused, and Unavailable (TRITON_UNAVAILABLE).
        """
        version = manifest.version
        if version not in self._loaded:
            try:
                await self._patiently(lambda left_s: self._make_ready(manifest, left_s))
            except InferenceServerException as error:
                raise ModelRefused(f"Triton can't load {version}: {error.message()}") from error
            self._loaded[version] = manifest
        model_file: str = self._configs[version].parameters["model_file"].string_value
        return model_file

    async def score(self, version: str, inputs: Features) -> NDArray[np.float32]:
        """Scores [N, heads]. Raises KeyError, BadInputs, and Unavailable (TRITON_UNAVAILABLE, or
        TRITON_LOST_MODEL when Triton came back without the model)."""
        return await self._answer(version, inputs, "scores")

    async def logits(self, version: str, inputs: Features) -> NDArray[np.float32]:
        """Logits [N, heads]. Raises as `score`."""
        return await self._answer(version, inputs, "logits")

    async def unload(self, version: str, idle: timedelta = timedelta(0)) -> None:
        """Have Triton free the version, unless a replica has had it run within `idle`."""
        if self._loaded.pop(version, None) is None:
            return
        with suppress(InferenceServerException):  # it goes, or has gone, with the server
            if await self._idle_s(version) >= idle.total_seconds():
                await self._client.unload_model(version, client_timeout=self._patience_s)

    async def close(self) -> None:
        """Close the connection; models stay loaded in Triton, for other replicas."""
        await self._client.close()

    async def _answer(self, version: str, inputs: Features, output: str) -> NDArray[np.float32]:
        manifest = self._loaded[version]
        check_inputs(inputs)

        async def attempt(left_s: float) -> NDArray[np.float32]:
            try:
                return await self._infer(version, inputs, output, left_s)
            except InferenceServerException as error:
                if error.status() != _UNKNOWN:
                    raise
            try:
                await self._make_ready(manifest, left_s)  # Triton was started anew, or another
            except ModelRefused as error:  # replica unloaded it
                raise Unavailable(str(error), reason="TRITON_LOST_MODEL") from error
            return await self._infer(version, inputs, output, left_s)

        return await self._patiently(attempt)

    async def _make_ready(self, manifest: Manifest, left_s: float) -> None:
        """Load the version unless it is, and see that it is the same model.

        Raises ModelRefused and InferenceServerException.
        """
        version = manifest.version
        if not await self._client.is_model_ready(version, client_timeout=left_s):
            load_s = LOAD_PATIENCE.total_seconds() if calls.remaining() is None else left_s
            try:
                await self._client.load_model(version, client_timeout=load_s)
            except InferenceServerException as error:
                if error.status() in _DOWN:
                    raise
                raise ModelRefused(f"Triton refused {version}: {error.message()}") from error
        config = (await self._client.get_model_config(version, client_timeout=left_s)).config
        if config.parameters["sha256"].string_value != manifest.sha256:
            raise ModelRefused(f"Triton has another model under the name {version}")
        self._configs[version] = config

    async def _idle_s(self, version: str) -> float:
        """How long ago the version ran for anybody, by clocks that are set alike."""
        found = await self._client.get_inference_statistics(
            version, client_timeout=self._patience_s
        )
        last_ms: int = max(each.last_inference for each in found.model_stats)
        return time.time() - last_ms / 1000

    async def _infer(
        self, version: str, inputs: Features, output: str, left_s: float
    ) -> NDArray[np.float32]:
        tensors = [_tensor(each.name, inputs[each.name]) for each in self._configs[version].input]
        answer = await self._client.infer(
            version, tensors, outputs=[InferRequestedOutput(output)], client_timeout=left_s
        )
        found: NDArray[np.float32] | None = answer.as_numpy(output)
        if found is None or found.shape != (len(inputs["user_row"]), len(HEADS)):
            raise Unavailable(f"Triton gave no {output}", reason="TRITON_UNAVAILABLE")
        return found

    async def _patiently(self, attempt: Callable[[float], Awaitable[Answer]]) -> Answer:
        """Call `attempt(seconds left)` again while Triton is down and the budget lasts."""
        left_s = calls.remaining()
        usable_s = self._patience_s if left_s is None else left_s * _SHARE_OF_DEADLINE
        ends = time.monotonic() + usable_s
        self._budget.earn()
        for number in itertools.count(1):
            try:
                return await attempt(max(ends - time.monotonic(), _LEAST_S))
            except InferenceServerException as error:
                if error.status() not in _DOWN:
                    raise
                cause = error
            pause = pause_s(number)
            if time.monotonic() + pause >= ends or not self._budget.spend():
                break
            self._retries.inc()
            await asyncio.sleep(pause)
        raise Unavailable(
            f"Triton at {self._address} doesn't answer", reason="TRITON_UNAVAILABLE"
        ) from cause


def _tensor(name: str, array: NDArray[Any]) -> InferInput:
    tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(np.ascontiguousarray(array))
    return tensor
