"""Folders of a model registry, made from the default model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.helper import make_node

from services.ranker.features import Features
from services.ranker.golden import read_golden, write_golden
from services.ranker.manifest import MANIFEST_FILE, MODEL_FILE, file_sha256, read_manifest
from services.ranker.settings import RankerSettings

DEFAULT = "bootstrap-1"
BEFORE = "logits_before"


def copy_model(registry: Path, version: str, **changes: str) -> Path:
    """The default model under a name of its own, with fields of model.json changed."""
    folder = registry / version
    shutil.copytree(RankerSettings().model_dir / DEFAULT, folder)
    _put(folder, {"version": version} | changes)
    return folder


def shifted_model(registry: Path, version: str, shift: float, *, golden: bool = True) -> Path:
    """A whole other model: its logits are the default's plus `shift`, as its golden set says or,
    without `golden`, not."""
    folder = copy_model(registry, version)
    moved = numpy_helper.from_array(np.array([shift], np.float32), "moved")
    changes = _change_logits(folder, [moved], [make_node("Add", [BEFORE, "moved"], ["logits"])])
    if golden:
        inputs, logits = golden_of(folder)
        changes["golden_sha256"] = write_golden(folder, inputs, logits + np.float32(shift))
    _put(folder, changes)
    return folder


def limited_model(registry: Path, version: str, events: int) -> Path:
    """The default model, but in runs of more events than that its scores are no numbers."""
    folder = copy_model(registry, version)
    numbers = [
        numpy_helper.from_array(np.array([value], np.float32), name)
        for name, value in (("most", events), ("zero", 0))
    ]
    nodes = [
        make_node("Shape", ["user_row"], ["count"]),
        make_node("Cast", ["count"], ["size"], to=onnx.TensorProto.FLOAT),
        make_node("Sub", ["most", "size"], ["left"]),
        make_node("Sqrt", ["left"], ["root"]),
        make_node("Mul", ["root", "zero"], ["nothing"]),
        make_node("Add", [BEFORE, "nothing"], ["logits"]),
    ]
    _put(folder, _change_logits(folder, numbers, nodes))
    return folder


def _change_logits(
    folder: Path, numbers: Sequence[onnx.TensorProto], nodes: Sequence[onnx.NodeProto]
) -> dict[str, str]:
    """Put nodes that make the logits from those BEFORE; gives the new hash."""
    model = onnx.load(folder / MODEL_FILE)
    graph = model.graph
    position, made = next((n, node) for n, node in enumerate(graph.node) if "logits" in node.output)
    made.output[list(made.output).index("logits")] = BEFORE
    for number, node in enumerate(nodes, position + 1):
        graph.node.insert(number, node)
    graph.initializer.extend(numbers)
    onnx.save(model, folder / MODEL_FILE)
    return {"sha256": file_sha256(folder / MODEL_FILE)}


def _put(folder: Path, fields: Mapping[str, str]) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def golden_of(folder: Path) -> tuple[Features, NDArray[np.float32]]:
    """Its golden set."""
    golden = read_golden(read_manifest(folder), folder)
    assert golden is not None
    return golden
