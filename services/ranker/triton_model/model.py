"""The ranking model in Triton's Python backend: requests are copied in, run, and copied out.

Each request is one run: Triton's batcher can't merge two free axes (users and events), so the
ranker packs and `max_batch_size` is 0.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from .buckets import OUTPUTS, BadInputs, Bucket, measured, smallest
from .serving import read_serving
from .sessions import BucketSession, Device

COUNT_EVERY_S = 1.0


class TritonPythonModel:
    """One instance; Triton calls its methods by name, from one thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open, capture and warm every bucket. What it raises keeps the model from loading."""
        folder = Path(args["model_repository"]) / args["model_version"]
        self._serving = serving = read_serving(folder)
        device = Device(serving.provider, int(args["model_instance_device_id"]), serving.threads)
        model = (folder / serving.model_file).read_bytes()
        self._sessions = [
            BucketSession(model, serving.inputs, serving.heads, bucket, device, graph)
            for graph, bucket in enumerate(serving.buckets, 1)
        ]
        self._family = pb_utils.MetricFamily(
            name="heliograph_ranker_bucket_runs",
            description="Runs of the ranking model, by the size they were padded to.",
            kind=pb_utils.MetricFamily.COUNTER,
        )
        self._counters = [self._counter(bucket) for bucket in serving.buckets]
        self._runs = [0] * len(serving.buckets)
        self._counted = 0.0
        pb_utils.Logger.log_info(
            f"{serving.version}: {len(self._sessions)} buckets on {serving.provider}"
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One answer for each request; wrong inputs fail their own request only."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Free what the sessions hold; counters must go before their family."""
        self._sessions.clear()
        self._counters.clear()

    def _answer(self, request: Any) -> Any:
        inputs = self._serving.inputs
        arrays = {
            each.name: pb_utils.get_input_tensor_by_name(request, each.name).as_numpy()
            for each in inputs
        }
        try:
            bucket = smallest(self._serving.buckets, measured(inputs, arrays))
        except BadInputs as error:
            refusal = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse([], error=refusal)
        scores = self._sessions[bucket].run(arrays)
        self._count(bucket)
        wanted = [name for name in OUTPUTS if name in request.requested_output_names()]
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, scores[name]) for name in wanted])

    def _count(self, bucket: int) -> None:
        """Note a run; counters are told once in COUNT_EVERY_S, as each telling is a round trip."""
        self._runs[bucket] += 1
        if time.monotonic() - self._counted < COUNT_EVERY_S:
            return
        for counter, runs in zip(self._counters, self._runs, strict=True):
            if runs:
                counter.increment(runs)
        self._runs = [0] * len(self._runs)
        self._counted = time.monotonic()

    def _counter(self, bucket: Bucket) -> Any:
        size = f"{bucket.users}x{bucket.events}x{bucket.steps}"
        return self._family.Metric(labels={"version": self._serving.version, "bucket": size})
