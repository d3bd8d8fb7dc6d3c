"""The half-precision variant: what is in half, that it answers as the model, and what it is of."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from services.ranker.features import HEADS, ItemTable
from services.ranker.manifest import HALF_MODEL_FILE, HALF_OF, MODEL_FILE, read_manifest
from services.ranker.settings import RankerSettings
from services.ranker.training.export import ParityError
from services.ranker.training.half import HALF, NORM, between_norms, export_half, halved
from services.ranker.training.log import Examples
from services.ranker.triton_model.sessions import CPU
from tests.unit.ranker.made_log import made_log
from tests.unit.ranker.random_inputs import random_inputs

FOLDER = RankerSettings().model_dir / "bootstrap-1"


@pytest.fixture(scope="module")
def log() -> tuple[Examples, ItemTable]:
    return made_log(users=30, days=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(FOLDER, tmp_path / "bootstrap-1")


def test_it_answers_as_the_model(folder: Path, log: tuple[Examples, ItemTable]) -> None:
    manifest = read_manifest(folder)
    assert 0 < export_half(folder, manifest, *log) <= 5e-3
    files = (folder / MODEL_FILE, folder / HALF_MODEL_FILE)
    whole, half = (ort.InferenceSession(path.read_bytes(), providers=[CPU]) for path in files)
    trained = [HEADS.index(head) for head in manifest.trained_heads]
    for seed, size in enumerate([(4, 20, 16), (1, 1, 1), (8, 160, 64)]):
        inputs = random_inputs(seed, *size)
        expected, found = (each.run(["logits"], inputs)[0] for each in (whole, half))
        np.testing.assert_allclose(found[:, trained], expected[:, trained], rtol=0, atol=5e-3)


def test_what_lies_between_norms_is_in_half_and_nothing_else() -> None:
    model = onnx.load(FOLDER / MODEL_FILE)
    before = model.SerializeToString()
    half = halved(model)
    assert model.SerializeToString() == before
    inferred = onnx.shape_inference.infer_shapes(half).graph
    halves = {
        each.name for each in inferred.value_info if each.type.tensor_type.elem_type == HALF
    } | {each.name for each in inferred.initializer if each.data_type == HALF}
    between = between_norms(model.graph)
    products = [node for node in half.graph.node if node.op_type in ("MatMul", "Softmax")]
    assert {node.name for node in products if halves.issuperset(node.input)} == {
        node.name for node in products if node.name in between
    }
    assert len(between) > 50
    for node in half.graph.node:
        if node.op_type in (NORM, "Log", "Sigmoid"):
            assert halves.isdisjoint(node.input), node.name


def test_the_file_says_which_model_it_is_of(folder: Path, log: tuple[Examples, ItemTable]) -> None:
    manifest = read_manifest(folder)
    export_half(folder, manifest, *log)
    session = ort.InferenceSession((folder / HALF_MODEL_FILE).read_bytes(), providers=[CPU])
    assert session.get_modelmeta().custom_metadata_map == {HALF_OF: manifest.sha256}


def test_a_model_that_half_precision_cannot_hold_leaves_no_file(
    folder: Path, log: tuple[Examples, ItemTable]
) -> None:
    model = onnx.load(folder / MODEL_FILE)
    between = between_norms(model.graph)
    product = next(
        node for node in model.graph.node if node.op_type == "MatMul" and node.name in between
    )
    weights = next(each for each in model.graph.initializer if each.name == product.input[1])
    huge = onnx.numpy_helper.to_array(weights) * np.float32(1e6)
    weights.CopyFrom(onnx.numpy_helper.from_array(huge, weights.name))
    onnx.save(model, folder / MODEL_FILE)
    with pytest.raises(ParityError, match="more than"):
        export_half(folder, read_manifest(folder), *log)
    assert not (folder / HALF_MODEL_FILE).exists()
