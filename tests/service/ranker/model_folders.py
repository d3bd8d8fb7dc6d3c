"""Folders of a model registry, made from the default model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from services.ranker.manifest import MODEL_FILE, file_sha256
from services.ranker.settings import RankerSettings

DEFAULT = "bootstrap-1"


def copy_model(registry: Path, version: str, **changes: str) -> Path:
    """The default model under a name of its own, with fields of model.json changed."""
    folder = registry / version
    shutil.copytree(RankerSettings().model_dir / DEFAULT, folder)
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": version} | changes))
    return folder


def shifted_model(registry: Path, version: str, shift: float) -> Path:
    """A whole other model: its logits are the default's plus `shift`."""
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
    path = folder / "model.json"
    fields = json.loads(path.read_text()) | {"sha256": file_sha256(folder / MODEL_FILE)}
    path.write_text(json.dumps(fields))
    return folder
