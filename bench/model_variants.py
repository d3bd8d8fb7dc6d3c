"""The ranking model's ONNX file in other forms, for benches: int8 in two ways, and cut in two.

Norms, embeddings and heads stay in float: only products with weights between norms are turned, as
in `services.ranker.training.half`. No form takes one scale for a whole batch while it runs, as then
a row's score would depend on the rows beside it.
"""

import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from services.ranker.features import USER_FEATURES, Features
from services.ranker.features.schema import SEQUENCES
from services.ranker.training.half import between_norms

BLOCK = 16
"""Weights that share a scale, the least that ONNX Runtime takes."""
OUTPUTS = ("logits", "scores")


def weight_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights in 8 bits with a scale for each BLOCK of a column, products in float."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    weights = {each.name: each for each in made.graph.initializer}
    nodes = [
        _eight_bits(made.graph, node, weights[node.input[1]])
        if node.name in _products(model)
        else node
        for node in made.graph.node
    ]
    made.graph.ClearField("node")
    made.graph.node.extend(nodes)
    made.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return made


def static(model: onnx.ModelProto, batches: Iterable[Features]) -> onnx.ModelProto:
    """Weights in 8 bits with a scale for each column, what they are multiplied with in 8 bits with
    one scale that these batches gave."""
    with tempfile.TemporaryDirectory(prefix="heliograph-bench-") as name:
        source, target = Path(name) / "model.onnx", Path(name) / "static.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model), source)
        quantize_static(
            source,
            target,
            _Batches(iter(batches), [each.name for each in model.graph.input]),
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=sorted(_products(model)),
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(target)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Iterator[Features], names: Sequence[str]) -> None:
        self._batches = batches
        self._names = names

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch."""
        batch = next(self._batches, None)
        return batch and {name: batch[name] for name in self._names}


def _products(model: onnx.ModelProto) -> set[str]:
    """Products with weights between norms, by name."""
    between = between_norms(model.graph)
    weights = {each.name for each in model.graph.initializer}
    return {
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.name in between and node.input[1] in weights
    }


def _eight_bits(
    graph: onnx.GraphProto, node: onnx.NodeProto, weights: onnx.TensorProto
) -> onnx.NodeProto:
    values = onnx.numpy_helper.to_array(weights).T  # [columns, rows]
    columns, rows = values.shape
    blocks = -(-rows // BLOCK)
    padded = np.zeros((columns, blocks * BLOCK), np.float32)
    padded[:, :rows] = values
    blocked = padded.reshape(columns, blocks, BLOCK)
    scales = np.maximum(np.abs(blocked).max(-1, keepdims=True), 1e-12) / 127
    bits = (np.rint(blocked / scales) + 128).astype(np.uint8)
    names = [f"{weights.name}_bits", f"{weights.name}_scales"]
    for name, array in zip(names, (bits, scales[..., 0]), strict=True):
        graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return onnx.helper.make_node(
        "MatMulNBits", [node.input[0], *names], node.output, node.name, domain="com.microsoft",
        K=rows, N=columns, bits=8, block_size=BLOCK, accuracy_level=1,
    )  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """The model in two: what depends on users alone, and the rest, which reads `passed` of it."""

    users: onnx.ModelProto
    rest: onnx.ModelProto
    passed: Sequence[str]


def in_two(model: onnx.ModelProto) -> Parts:
    """Cut where the last tensors are that no event has a part in."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    of_users = {spec.name for spec in USER_FEATURES}
    of_events = {each.name for each in graph.input} - of_users - {"items"}
    passed: dict[str, None] = {}
    made: set[str] = set()
    for node in graph.node:
        if of_events.intersection(node.input):
            of_events.update(node.output)
            passed |= dict.fromkeys(name for name in node.input if name in made)
        elif of_users.intersection(node.input):
            of_users.update(node.output)
            made.update(node.output)
    return Parts(
        _part(model, graph, set(), [*passed]), _part(model, graph, passed, OUTPUTS), [*passed]
    )


def _part(
    model: onnx.ModelProto,
    graph: onnx.GraphProto,
    given: Collection[str],
    outputs: Sequence[str],
) -> onnx.ModelProto:
    """What makes these outputs, from the model's inputs and what is given."""
    wanted, nodes = set(outputs), []
    for node in reversed(graph.node):
        if wanted.intersection(node.output) and not set(given).issuperset(node.output):
            nodes.append(node)
            wanted.update(node.input)
    types = {each.name: each for each in (*graph.value_info, *graph.input, *graph.output)}
    starts = [*given, *(each.name for each in graph.input)]
    return onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes[::-1],
            "part",
            [types[name] for name in starts if name in wanted],
            [types[name] for name in outputs],
            [each for each in graph.initializer if each.name in wanted],
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )


def with_items_of_events(inputs: Features) -> Features:
    """The inputs with the content of the events' items alone, as a caller would have it who keeps
    what depends on users."""
    distinct = np.unique(inputs["event_items"])
    distinct = distinct[distinct != 0]
    place = np.zeros(len(inputs["items"]), np.int32)
    place[distinct] = np.arange(1, len(distinct) + 1)
    own = dict(inputs)
    own["items"] = np.concatenate([inputs["items"][:1], inputs["items"][distinct]])
    for name in ("event_items", *(f"{sequence}_items" for sequence in SEQUENCES)):
        own[name] = place[inputs[name]]
    return own
