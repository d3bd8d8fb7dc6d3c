"""Tries the served model on a GPU, bucket by bucket: provider, capture, alternation, parity.

    python -m deploy.triton.smoke services/ranker/models/bootstrap-1

Runs the code of Triton's model without Triton, with onnxruntime-gpu. Prints a table of the time of
a run with and without CUDA graphs. Ends with status 1 when a check fails, 2 without a GPU.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from deploy.triton.render import BUCKETS, bucket, model_inputs_of
from services.ranker.golden import PARITY
from services.ranker.manifest import HALF_MODEL_FILE, MODEL_FILE
from services.ranker.triton_model.buckets import Arrays, Bucket, Input
from services.ranker.triton_model.sessions import CPU, CUDA, BucketSession, Device

TIMED_RUNS = 200
FEWER_LAUNCHES = 0.9
"""A captured run must take less than this share of one without a graph, in the smallest bucket at
least: nothing else shows from outside that ONNX Runtime replays a graph."""


@dataclass(frozen=True)
class Tried:
    """What one bucket did."""

    bucket: Bucket
    difference: float
    """Largest difference of logits from the CPU."""
    repeats: bool
    """Whether A/A/A/B/B/B gave the same bits each time."""
    with_ms: float
    without_ms: float


def main_device() -> str:
    """The provider to try: CUDA where it is, else the CPU."""
    return CUDA if CUDA in ort.get_available_providers() else CPU


def try_bucket(
    model: bytes,
    exact: ort.InferenceSession,
    inputs: Sequence[Input],
    size: Bucket,
    device: Device,
    graph: int,
) -> Tried:
    """Open the bucket with and without graphs, compare and time. Raises WrongProvider."""
    heads = exact.get_outputs()[0].shape[1]
    captured = BucketSession(model, inputs, heads, size, device, graph)
    plain = BucketSession(model, inputs, heads, size, replace(device, graphs=False), graph)
    full = filled(inputs, size, seed=1)
    part = filled(inputs, replace(size, events=max(1, size.events // 3)), seed=2)
    answers = [captured.run(each)["logits"] for each in (full, full, full, part, part, part)]
    repeats = all(
        np.array_equal(answers[first], answers[second])
        for first, second in ((0, 1), (0, 2), (3, 4), (3, 5))
    )
    difference = max(
        float(np.abs(answers[position] - exact.run(["logits"], dict(arrays))[0]).max())
        for position, arrays in ((0, full), (3, part))
    )
    return Tried(size, difference, repeats, _median_ms(captured, full), _median_ms(plain, full))


def filled(inputs: Sequence[Input], size: Bucket, seed: int) -> Arrays:
    """Random inputs that fill so much, without the reserved user."""
    draw = np.random.default_rng(seed)
    axes = size.axes | {"users": size.users}
    arrays: dict[str, NDArray[np.generic]] = {}
    for each in inputs:
        shape = each.sizes(axes)
        if each.dtype == "float32":
            arrays[each.name] = (draw.normal(size=shape) / 8).astype("float32")
        else:
            arrays[each.name] = draw.integers(each.end(axes) or 1000, size=shape).astype(each.dtype)
    return arrays


def _median_ms(session: BucketSession, arrays: Arrays) -> float:
    times = []
    for _ in range(TIMED_RUNS):
        started = time.perf_counter()
        session.run(arrays)
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e3


def problems(tried: Sequence[Tried], *, half: bool, on_gpu: bool) -> list[str]:
    """What is wrong, in words; empty when all checks hold."""
    found = []
    for each in tried:
        if not each.repeats:
            found.append(f"{each.bucket} answers otherwise when others run between")
        if not each.difference <= PARITY[HALF_MODEL_FILE if half else MODEL_FILE]:
            found.append(f"{each.bucket}: logits differ by {each.difference:.1e}")
    fastest = min((each.with_ms / each.without_ms for each in tried), default=1.0)
    if on_gpu and not fastest < FEWER_LAUNCHES:
        found.append(f"no bucket is faster with a graph (best ratio {fastest:.2f}): none replays?")
    return found


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--half", is_flag=True, help=f"Try {HALF_MODEL_FILE}, the fp16 variant.")
@click.option("--on-cpu", is_flag=True, help="Try all but the capture on the CPU.")
def main(folder: Path, half: bool, on_cpu: bool) -> None:
    """Try the model of a registry FOLDER on this machine's GPU."""
    on_gpu = main_device() == CUDA and not on_cpu
    if not on_gpu:
        click.echo("No GPU: onnxruntime offers no CUDAExecutionProvider. Nothing is captured here.")
        if not on_cpu:
            sys.exit(2)
    file = folder / (HALF_MODEL_FILE if half else MODEL_FILE)
    model, inputs = file.read_bytes(), model_inputs_of(file)
    exact = ort.InferenceSession((folder / MODEL_FILE).read_bytes(), providers=[CPU])
    device = Device(CUDA if on_gpu else CPU)
    click.echo(f"{file} on {device.provider}, onnxruntime {ort.__version__}")
    click.echo("users events steps   graph ms  plain ms  ratio  |Δlogit|  A/A/A/B/B/B")
    tried = []
    for graph, size in enumerate((bucket(*each) for each in BUCKETS), 1):
        each = try_bucket(model, exact, inputs, size, device, graph)
        tried.append(each)
        click.echo(
            f"{size.users:5} {size.events:6} {size.steps:5} {each.with_ms:10.3f}"
            f" {each.without_ms:9.3f} {each.with_ms / each.without_ms:6.2f}"
            f" {each.difference:9.1e}  {'same' if each.repeats else 'DIFFERS'}"
        )
    wrong = problems(tried, half=half, on_gpu=on_gpu)
    for problem in wrong:
        click.echo(f"FAILED: {problem}")
    click.echo("Failed." if wrong else "All checks held." if on_gpu else "Held, without a GPU.")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
