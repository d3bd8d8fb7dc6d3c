"""model.fp16.onnx: the exported model with its transformers in half precision, for GPUs.

What lies between the first and the last norm runs in half precision: products, attention and the
feed-forward nets. Inputs, embeddings, logarithms of counts and ages (which don't fit into half
precision), the norms themselves, heads and calibration stay in float.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from services.ranker.features.items import Contents
from services.ranker.features.schema import Features
from services.ranker.golden import PARITY, largest_difference
from services.ranker.manifest import (
    HALF_MODEL_FILE,
    HALF_OF,
    MODEL_FILE,
    Manifest,
    file_sha256,
)
from services.ranker.training.export import ParityError
from services.ranker.training.log import Examples
from services.ranker.triton_model.sessions import CPU, session_options

PARITY_ROWS = 1024
BATCH_ROWS = 128
FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
NORM = "LayerNormalization"


def export_half(folder: Path, manifest: Manifest, examples: Examples, contents: Contents) -> float:
    """Write model.fp16.onnx beside model.onnx, unless it answers otherwise on rows of a log; gives
    the largest difference of logits. Raises ParityError."""
    half = halved(onnx.load(folder / MODEL_FILE))
    onnx.helper.set_model_props(half, {HALF_OF: file_sha256(folder / MODEL_FILE)})
    made = half.SerializeToString()
    exact, near = _open((folder / MODEL_FILE).read_bytes()), _open(made)
    batches = _batches(examples, contents)
    apart = [largest_difference(manifest, _logits(near, b), _logits(exact, b)) for b in batches]
    difference, most = float(np.max(apart)), PARITY[HALF_MODEL_FILE]
    if not difference <= most:
        raise ParityError(f"logits differ by {difference:.2e}, more than {most:.0e}")
    (folder / HALF_MODEL_FILE).write_bytes(made)
    return difference


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all that lies between norms in half precision; inputs and outputs as they
    are."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    half, graph = onnx.ModelProto(), inferred.graph
    half.CopyFrom(model)
    half.graph.ClearField("node")
    known = (*graph.value_info, *graph.input, *graph.output)
    floats = {each.name for each in known if each.type.tensor_type.elem_type == FLOAT}
    weights = {each.name: each for each in graph.initializer if each.data_type == FLOAT}
    names = between_norms(graph)
    made = {name for node in graph.node if node.name in names for name in node.output}
    turned: set[str] = set()
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        inside = node.name in names
        for place, name in enumerate(node.input):
            if (name in floats or name in weights) and inside != (name in made):
                node.input[place] = other = f"{name}{'_half' if inside else '_float'}"
                if other not in turned:
                    _turn(half.graph, name, other, HALF if inside else FLOAT, weights.get(name))
                turned.add(other)
        if inside and node.op_type == "Cast" and node.attribute[0].i == FLOAT:
            node.attribute[0].i = HALF
        half.graph.node.append(node)
    _leave_out_unread(half.graph)
    onnx.checker.check_model(half, full_check=True)
    return half


def _turn(
    graph: onnx.GraphProto, name: str, other: str, kind: int, weights: onnx.TensorProto | None
) -> None:
    """Add the other kind of a tensor: weights as weights, else by a cast."""
    if weights is None:
        cast = onnx.helper.make_node("Cast", [name], [other], f"{other}_cast", to=kind)
        graph.node.append(cast)
        return
    with np.errstate(over="ignore"):  # the check of parity sees it
        values = onnx.numpy_helper.to_array(weights).astype(np.float16)
    graph.initializer.append(onnx.numpy_helper.from_array(values, other))


def _leave_out_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    kept = [each for each in graph.initializer if each.name in read]
    graph.ClearField("initializer")
    graph.initializer.extend(kept)
    graph.ClearField("value_info")


def between_norms(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes that a norm leads to and that lead to a norm, without the norms."""
    norms = [node for node in graph.node if node.op_type == NORM]
    after = _reached(graph.node, {name for norm in norms for name in norm.output})
    before = _reached(
        [_reversed(node) for node in reversed(graph.node)], {norm.input[0] for norm in norms}
    )
    return (after & before) - {norm.name for norm in norms}


def _open(model: bytes) -> ort.InferenceSession:
    return ort.InferenceSession(model, session_options(1), providers=[CPU])


def _logits(session: ort.InferenceSession, batch: Features) -> NDArray[np.float32]:
    wanted = {each.name: batch[each.name] for each in session.get_inputs()}
    logits: NDArray[np.float32] = session.run(["logits"], wanted)[0]
    return logits


def _batches(examples: Examples, contents: Contents) -> Iterable[Features]:
    rows = np.arange(len(examples))[-PARITY_ROWS:]
    for start in range(0, len(rows), BATCH_ROWS):
        yield examples.inputs(rows[start : start + BATCH_ROWS], contents)


def _reached(nodes: Iterable[onnx.NodeProto], tensors: set[str]) -> set[str]:
    """Names of the nodes, given in the order of the graph, that tensors lead to."""
    found, tensors = set(), set(tensors)
    for node in nodes:
        if tensors.intersection(node.input):
            found.add(node.name)
            tensors.update(node.output)
    return found


def _reversed(node: onnx.NodeProto) -> onnx.NodeProto:
    """Inputs for outputs."""
    return onnx.helper.make_node(node.op_type, node.output, node.input, node.name)
