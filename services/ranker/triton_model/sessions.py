"""One ONNX Runtime session per bucket, its inputs and outputs bound to fixed buffers once.

On a GPU the session replays one CUDA graph, captured in the first run. Without one the same code
runs on the CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .buckets import OUTPUTS, Arrays, Bucket, Buffers, Input

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
WARM_RUNS = 3
"""ONNX Runtime captures within the first run; the later ones replay, and must answer the same."""


class WrongProvider(RuntimeError):
    """ONNX Runtime opened the model elsewhere than it was told to."""


class NotRepeatable(RuntimeError):
    """A bucket answers the same inputs otherwise when it runs again."""


@dataclass(frozen=True)
class Device:
    """Where sessions run."""

    provider: str
    number: int = 0
    threads: int = 2
    """Threads within one run, on the CPU."""
    graphs: bool = True
    """Capture CUDA graphs; without, only to see what they bring."""

    @property
    def kind(self) -> str:
        """The name of the memory the buffers lie in."""
        return "cuda" if self.provider == CUDA else "cpu"


class BucketSession:
    """The model at one fixed size. Not for several threads at once: the buffers are shared."""

    def __init__(
        self,
        model: bytes,
        inputs: Sequence[Input],
        heads: int,
        bucket: Bucket,
        device: Device,
        graph: int,
    ) -> None:
        """Open, bind and warm; `graph` (from 1) names the CUDA graph.

        Raises WrongProvider, NotRepeatable, and what ONNX Runtime raises.
        """
        self.bucket = bucket
        self._session = ort.InferenceSession(
            model, _fixed(bucket, device), providers=_providers(device)
        )
        opened = self._session.get_providers()[0]
        if opened != device.provider:
            raise WrongProvider(f"the model runs on {opened}, not on {device.provider}")
        self._buffers = Buffers(inputs, bucket)
        self._on_device = device.provider == CUDA
        self._inputs = {
            name: _placed(array, device) for name, array in self._buffers.arrays.items()
        }
        empty = np.zeros((bucket.events, heads), np.float32)
        self._scores = {name: np.zeros_like(empty) for name in OUTPUTS}
        self._outputs = {name: _placed(array, device) for name, array in self._scores.items()}
        self._binding = self._session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._run_options = ort.RunOptions()
        if self._on_device and device.graphs:
            self._run_options.add_run_config_entry("gpu_graph_id", str(graph))
        self._warm()

    def run(self, arrays: Arrays) -> dict[str, NDArray[np.float32]]:
        """Scores and logits, each [N, heads], of checked inputs that fit."""
        self._buffers.fill(arrays)
        self._replay()
        events = len(arrays["user_row"])
        return {name: scores[:events].copy() for name, scores in self._scores.items()}

    def _replay(self) -> None:
        if self._on_device:
            for name, value in self._inputs.items():
                value.update_inplace(self._buffers.arrays[name])
        self._session.run_with_iobinding(self._binding, self._run_options)
        if self._on_device:
            for name, value in self._outputs.items():
                self._scores[name][:] = value.numpy()

    def _warm(self) -> None:
        """Run on padding alone: captures the graph, and reserves all memory."""
        self._replay()
        first = self._scores["logits"].copy()
        for _ in range(WARM_RUNS - 1):
            self._replay()
            if not np.array_equal(first, self._scores["logits"]):
                raise NotRepeatable(f"{self.bucket} answers otherwise when run again")


def _placed(array: NDArray[Any], device: Device) -> Any:
    """A value of ONNX Runtime over the array itself on the CPU, over a copy on a GPU."""
    return ort.OrtValue.ortvalue_from_numpy(array, device.kind, device.number)


def session_options(threads: int) -> ort.SessionOptions:
    """For a session whose runs take so many threads of the CPU each."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Idle threads that spin take the cores from whatever else runs on the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _fixed(bucket: Bucket, device: Device) -> ort.SessionOptions:
    options = session_options(device.threads)
    for axis, size in bucket.axes.items():
        options.add_free_dimension_override_by_name(axis, size)
    return options


def _providers(device: Device) -> list[Any]:
    if device.provider == CPU:
        return [CPU]
    capture = "1" if device.graphs else "0"
    options = {"device_id": str(device.number), "enable_cuda_graph": capture}
    # Products of matrices in TF32 would differ from the trained model's by more than its golden set
    # allows.
    return [(CUDA, {**options, "use_tf32": "0"})]
