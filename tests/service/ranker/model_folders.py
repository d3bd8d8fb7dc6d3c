"""Folders of a model registry, made from the default model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from services.ranker.features import Features
from services.ranker.golden import read_golden, write_golden
from services.ranker.manifest import MODEL_FILE, file_sha256, read_manifest
from services.ranker.settings import RankerSettings

DEFAULT = "bootstrap-1"


def copy_model(registry: Path, version: str, **changes: str) -> Path:
    """The default model under a name of its own, with fields of model.json changed."""
    folder = registry / version
    shutil.copytree(RankerSettings().model_dir / DEFAULT, folder)
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": version} | changes))
    return folder


def shifted_model(registry: Path, version: str, shift: float, *, golden: bool = True) -> Path:
    """A whole other model: its logits are the default's plus `shift`, as its golden set says or,
    without `golden`, not."""
    folder = copy_model(registry, version)
    model = onnx.load(folder / MODEL_FILE)
    logits = next(node for node in model.graph.node if "logits" in node.output)
    name = f"{version}_shift"
    moved = numpy_helper.from_array(np.array([shift], np.float32), name)
    model.graph.initializer.append(moved)
    inner = "logits_before"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, each in enumerate(names):
                if each == "logits":
                    names[place] = inner if names is node.output else "logits"
    position = list(model.graph.node).index(logits) + 1
    model.graph.node.insert(position, onnx.helper.make_node("Add", [inner, name], ["logits"]))
    onnx.save(model, folder / MODEL_FILE)
    hashes = {"sha256": file_sha256(folder / MODEL_FILE)}
    if golden:
        inputs, before = golden_of(folder)
        hashes["golden_sha256"] = write_golden(folder, inputs, before + np.float32(shift))
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | hashes))
    return folder


def golden_of(folder: Path) -> tuple[Features, NDArray[np.float32]]:
    """Its golden set."""
    golden = read_golden(read_manifest(folder), folder)
    assert golden is not None
    return golden
