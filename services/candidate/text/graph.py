"""Writes minilm.onnx: the computation of all-MiniLM-L6-v2, without its weights.

The weights stay in the published safetensors file: each of the graph's tensors says at which byte
of it to look. So no weights are in the repository, none are converted, and onnx is needed only
here:

    python -m services.candidate.text.graph

The tensors' names are those of the file; shapes: n texts, s word pieces, 384 dimensions.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from services.candidate.text import weights
from services.candidate.text.encoder import DIMENSIONS, GRAPH_FILE
from services.candidate.text.weights import WEIGHTS_FILE, TextModelError
from services.runtime.settings import RuntimeSettings

OPSET = 23  # the first with Attention
IR_VERSION = 11
LAYERS = 6
HEADS = 12
EPSILON = 1e-12
MOST_HEADER_BYTES = 1 << 20
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a float32 tensor lies in the weights file: shape, first byte and number of bytes."""

    shape: tuple[int, ...]
    offset: int
    length: int


def read_header(path: Path) -> dict[str, Stored]:
    """The float32 tensors of a safetensors file by name: eight bytes with the header's length, a
    JSON header, then the tensors. Raises TextModelError when the header isn't true of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MOST_HEADER_BYTES, size - 8):
            raise TextModelError(f"{path}: a header of {length:,} bytes in a file of {size:,}")
        try:
            header = json.loads(file.read(length))
            entries = {name: each for name, each in header.items() if each.get("dtype") == "F32"}
            return {name: _stored(each, 8 + length, size) for name, each in entries.items()}
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise TextModelError(f"{path}: the header is not that of safetensors") from error


def _stored(entry: dict[str, Any], base: int, size: int) -> Stored:
    start, end = entry["data_offsets"]
    shape = tuple(map(int, entry["shape"]))
    if min(shape, default=1) < 0 or not 0 <= start <= end <= size - base:
        raise ValueError("a tensor outside the file")
    if end - start != FLOAT_BYTES * int(np.prod(shape, dtype=object)):
        raise ValueError("a tensor whose shape is not its size")
    return Stored(shape, base + start, end - start)


class _Graph:
    """Nodes and tensors as they are added."""

    def __init__(self, stored: dict[str, Stored]) -> None:
        self._stored = stored
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, onnx.TensorProto] = {}

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        output = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, name: str) -> str:
        """A tensor of the weights file."""
        stored = self._stored[name]
        tensor = onnx.TensorProto(
            name=name,
            data_type=onnx.TensorProto.FLOAT,
            dims=stored.shape,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        places = {"location": WEIGHTS_FILE, "offset": stored.offset, "length": stored.length}
        for key, value in places.items():
            tensor.external_data.add(key=key, value=str(value))
        self.tensors[name] = tensor
        return name

    def constant(self, *values: int) -> str:
        """A vector of whole numbers."""
        name = "constant_" + "_".join(map(str, values))
        self.tensors[name] = numpy_helper.from_array(np.array(values, np.int64), name)
        return name

    def linear(self, x: str, name: str) -> str:
        """x [n, s, in] to [n, s, out]; the file's weights are [out, in]."""
        transposed = self.add("Transpose", self.weight(f"{name}.weight"), perm=[1, 0])
        product = self.add("MatMul", x, transposed)
        return self.add("Add", product, self.weight(f"{name}.bias"))

    def normalised(self, x: str, name: str) -> str:
        """Layer normalisation."""
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=EPSILON)


def build(stored: dict[str, Stored]) -> onnx.ModelProto:
    """The graph: numbers of pieces [n, s] (0: padding) to vectors [n, 384] of length 1."""
    graph = _Graph(stored)
    read = graph.add("Not", graph.add("Equal", "pieces", graph.constant(0)))  # [n, s]
    x = _embeddings(graph)
    mask = _mask(graph, read)
    for layer in range(LAYERS):
        x = _layer(graph, x, mask, f"encoder.layer.{layer}")
    _pool(graph, x, read)
    made = helper.make_graph(
        graph.nodes,
        "all-MiniLM-L6-v2",
        [helper.make_tensor_value_info("pieces", onnx.TensorProto.INT64, ["n", "s"])],
        [helper.make_tensor_value_info("vectors", onnx.TensorProto.FLOAT, ["n", DIMENSIONS])],
        list(graph.tensors.values()),
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION)


def _embeddings(graph: _Graph) -> str:
    """Of pieces, positions and the one segment, added: [n, s, 384]."""
    words = graph.add("Gather", graph.weight("embeddings.word_embeddings.weight"), "pieces")
    count = graph.add("Shape", "pieces", start=1)
    table = graph.weight("embeddings.position_embeddings.weight")
    positions = graph.add("Slice", table, graph.constant(0), count, graph.constant(0))
    segments = graph.weight("embeddings.token_type_embeddings.weight")
    segment = graph.add("Gather", segments, graph.constant(0))
    x = graph.add("Add", graph.add("Add", words, positions), segment)
    return graph.normalised(x, "embeddings.LayerNorm")


def _mask(graph: _Graph, read: str) -> str:
    """Which pieces are looked at from each piece, [n, 1, s, s]; the runtime wants it whole."""
    count, length = graph.add("Shape", "pieces", end=1), graph.add("Shape", "pieces", start=1)
    shape = graph.add("Concat", count, graph.constant(1), length, length, axis=0)
    return graph.add("Expand", graph.add("Unsqueeze", read, graph.constant(1, 2)), shape)


def _layer(graph: _Graph, x: str, mask: str, name: str) -> str:
    """One transformer layer, normalised after each half (as BERT is)."""
    parts = [graph.linear(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
    seen = graph.add("Attention", *parts, mask, q_num_heads=HEADS, kv_num_heads=HEADS)
    seen = graph.linear(seen, f"{name}.attention.output.dense")
    x = graph.normalised(graph.add("Add", seen, x), f"{name}.attention.output.LayerNorm")
    wide = graph.add("Gelu", graph.linear(x, f"{name}.intermediate.dense"))  # [n, s, 1536]
    thought = graph.linear(wide, f"{name}.output.dense")
    return graph.normalised(graph.add("Add", thought, x), f"{name}.output.LayerNorm")


def _pool(graph: _Graph, x: str, read: str) -> None:
    """The mean over the pieces, scaled to length 1; the scaling makes the division needless."""
    counted = graph.add("Cast", read, to=onnx.TensorProto.FLOAT)
    counted = graph.add("Unsqueeze", counted, graph.constant(2))  # [n, s, 1]
    total = graph.add("ReduceSum", graph.add("Mul", x, counted), graph.constant(1), keepdims=0)
    graph.nodes.append(helper.make_node("LpNormalization", [total], ["vectors"], axis=-1, p=2))


def main() -> None:
    """Write the graph beside this file."""
    folder = weights.model_folder(RuntimeSettings().model_dir)
    weights.fetch(folder)
    model = build(read_header(folder / WEIGHTS_FILE))
    GRAPH_FILE.write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
