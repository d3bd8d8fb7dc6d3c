"""Renders a Triton model repository from model folders of the ranker's registry.

    python -m deploy.triton.render --repository out/triton services/ranker/models/bootstrap-1

Each version becomes one Triton model of its name, so that versions serve beside each other and a
promotion is only another name in the next request.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
import onnxruntime as ort
from tritonclient.utils import np_to_triton_dtype

from deploy.triton.traffic import Size, TrafficError, choose, padded_work, read_traffic
from services.ranker import triton_model
from services.ranker.acceptance import check_folder
from services.ranker.backend import MOST_EVENTS, MOST_USERS, ModelRefused
from services.ranker.features.schema import SEQUENCES, STEPS
from services.ranker.inputs import INPUTS
from services.ranker.manifest import (
    HALF_MODEL_FILE,
    HALF_OF,
    MODEL_FILE,
    Manifest,
    ManifestError,
    read_manifest,
)
from services.ranker.triton_model.buckets import OUTPUTS, Bucket, Input
from services.ranker.triton_model.serving import Serving, write_serving
from services.ranker.triton_model.sessions import CPU, CUDA

MODEL_CODE = Path(triton_model.__file__).parent
MOST_BUCKETS = 12
SHORT_STEPS = 16

BUCKETS = tuple(
    (users, events, steps)
    for users, events in ((1, 32), (8, 160), (32, 640), (MOST_USERS, MOST_EVENTS))
    for steps in (SHORT_STEPS, STEPS)
)
"""Users, events and steps, for who has counted no traffic yet: events are 20 a user, rounded up,
and many users have short histories. The last one takes every run that the ranker makes."""

_NUMPY_TYPES = {"tensor(uint8)": "uint8", "tensor(int32)": "int32", "tensor(float)": "float32"}


class RenderError(click.ClickException):
    """A model folder that can't be rendered; says why."""


def bucket(users: int, events: int, steps: int) -> Bucket:
    """A bucket with room for all items that so many users, events and steps can refer to."""
    return Bucket(users, events, steps, 1 + users * steps * len(SEQUENCES) + events)


def render(
    folder: Path,
    repository: Path,
    *,
    gpu: bool = False,
    half: bool = False,
    instances: int = 1,
    threads: int = 2,
    sizes: Sequence[tuple[int, int, int]] = BUCKETS,
) -> Path:
    """Write the Triton model of a registry folder, whole or not at all; gives its folder.

    `instances` per GPU, or on the CPU in all. Raises RenderError.
    """
    try:
        manifest = read_manifest(folder)
        check_folder(manifest, folder)
    except (ManifestError, ModelRefused) as error:
        raise RenderError(str(error)) from error
    model_file = HALF_MODEL_FILE if half else MODEL_FILE
    if not (folder / model_file).is_file():
        raise RenderError(f"{folder} has no {model_file}")
    if half and half_of(folder / model_file) != manifest.sha256:
        raise RenderError(f"{folder}: {model_file} was made from another {MODEL_FILE}")
    if len(sizes) > MOST_BUCKETS:
        raise RenderError(f"{len(sizes)} buckets, at most {MOST_BUCKETS}")
    if (MOST_USERS, MOST_EVENTS, STEPS) not in sizes:
        raise RenderError(f"one bucket must be {MOST_USERS}x{MOST_EVENTS}x{STEPS}")
    serving = Serving(
        version=manifest.version,
        model_file=model_file,
        heads=len(manifest.heads),
        provider=CUDA if gpu else CPU,
        threads=threads,
        buckets=tuple(bucket(*size) for size in sizes),
        inputs=model_inputs_of(folder / model_file),
    )
    repository.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=repository, prefix=".") as temporary:
        made = Path(temporary) / manifest.version
        version = made / "1"
        version.mkdir(parents=True)
        for code in MODEL_CODE.glob("*.py"):
            shutil.copy(code, version)
        shutil.copy(folder / model_file, version)
        write_serving(version, serving)
        (made / "config.pbtxt").write_text(config(manifest, serving, instances))
        target = repository / manifest.version
        if target.exists():
            os.rename(target, Path(temporary) / "replaced")
        os.rename(made, target)
    return target


def model_inputs_of(path: Path) -> tuple[Input, ...]:
    """Those of our inputs that an ONNX file reads. Raises RenderError for any others."""
    session = ort.InferenceSession(path.read_bytes(), providers=[CPU])
    read = {each.name: (_NUMPY_TYPES.get(each.type), *each.shape) for each in session.get_inputs()}
    found = tuple(each for each in INPUTS if read.get(each.name) == (each.dtype, *each.shape))
    if unknown := read.keys() - {each.name for each in found}:
        raise RenderError(f"{path} reads other inputs: {', '.join(sorted(unknown))}")
    return found


def half_of(path: Path) -> str | None:
    """SHA-256 of the model that one in half precision says it was made from."""
    session = ort.InferenceSession(path.read_bytes(), providers=[CPU])
    found: str | None = session.get_modelmeta().custom_metadata_map.get(HALF_OF)
    return found


def config(manifest: Manifest, serving: Serving, instances: int) -> str:
    """config.pbtxt. Its parameters let the ranker see that it talks to the model it means."""
    kind = "KIND_GPU" if serving.provider == CUDA else "KIND_CPU"
    parts = [
        f"name: {json.dumps(manifest.version)}",
        'backend: "python"',
        "max_batch_size: 0",
        f"instance_group [{{ count: {instances}, kind: {kind} }}]",
    ]
    for each in serving.inputs:
        dims = [axis if isinstance(axis, int) else -1 for axis in each.shape]
        parts.append(_tensor("input", each.name, np_to_triton_dtype(np.dtype(each.dtype)), dims))
    for name in OUTPUTS:
        parts.append(_tensor("output", name, "FP32", [-1, serving.heads]))
    facts = {
        "sha256": manifest.sha256,
        "schema_hash": manifest.schema_hash,
        "model_file": serving.model_file,
        "buckets": json.dumps([asdict(each) for each in serving.buckets]),
    }
    for key, value in facts.items():
        text = json.dumps(value)
        parts.append(f'parameters {{ key: "{key}" value: {{ string_value: {text} }} }}')
    return "\n".join(parts) + "\n"


def _tensor(kind: str, name: str, data_type: str, dims: Sequence[int]) -> str:
    return f'{kind} [{{ name: "{name}", data_type: TYPE_{data_type}, dims: {list(dims)} }}]'


def _by_traffic(paths: Sequence[Path]) -> list[Size]:
    try:
        runs = read_traffic(paths)
    except TrafficError as error:
        raise RenderError(str(error)) from error
    total = sum(runs.values())
    if not total:
        raise RenderError("no runs have been counted yet")
    chosen = choose(runs, MOST_BUCKETS)
    named = " ".join("x".join(map(str, size)) for size in chosen)
    click.echo(
        f"{named}: chosen by {total:,.0f} runs, whose work padding makes "
        f"{padded_work(chosen, runs):.2f} times as much; with the {len(BUCKETS)} buckets that are "
        f"there without traffic {padded_work(BUCKETS, runs):.2f} times"
    )
    return chosen


def _size(text: str) -> tuple[int, int, int]:
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{text!r} is not USERSxEVENTSxSTEPS, e.g. 32x640x16")
    users, events, steps = map(int, parts)
    return users, events, steps


@click.command()
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option("--repository", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--gpu", is_flag=True, help="Run on the CUDA provider, with one graph per bucket.")
@click.option("--half", is_flag=True, help=f"Serve {HALF_MODEL_FILE}, the fp16 variant.")
@click.option("--instances", default=1, show_default=True, help="Per GPU, or on the CPU in all.")
@click.option("--threads", default=2, show_default=True, help="Per run, on the CPU.")
@click.option("--bucket", "sizes", multiple=True, help="USERSxEVENTSxSTEPS; instead of ours.")
@click.option(
    "--traffic",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What /metrics of a ranker answered: the buckets are chosen by its runs.",
)
def main(
    folders: Sequence[Path],
    repository: Path,
    gpu: bool,
    half: bool,
    instances: int,
    threads: int,
    sizes: Sequence[str],
    traffic: Sequence[Path],
) -> None:
    """Render model FOLDERS of the registry into a Triton model repository."""
    if sizes and traffic:
        raise click.UsageError("--bucket and --traffic can't go together")
    chosen = _by_traffic(traffic) if traffic else [_size(text) for text in sizes] or BUCKETS
    for folder in folders:
        made = render(
            folder.resolve(), repository, gpu=gpu, half=half, instances=instances,
            threads=threads, sizes=chosen,
        )  # fmt: skip
        click.echo(f"{made}")


if __name__ == "__main__":
    main()
