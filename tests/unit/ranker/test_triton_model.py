"""What runs inside Triton, without Triton: buckets, buffers and bound sessions on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.transformers.float16 import convert_float_to_float16

from deploy.triton.render import BUCKETS, bucket, model_inputs_of
from services.ranker.backend import MOST_EVENTS, MOST_USERS
from services.ranker.features import HEADS, STEPS
from services.ranker.inputs import INPUTS
from services.ranker.settings import RankerSettings
from services.ranker.triton_model.buckets import BadInputs, Buffers, measured, smallest
from services.ranker.triton_model.sessions import CPU, CUDA, BucketSession, Device, WrongProvider
from tests.unit.ranker.random_inputs import random_inputs

MODEL = RankerSettings().model_dir / "bootstrap-1" / "model.onnx"
ALL = [bucket(*size) for size in BUCKETS]
SMALL = bucket(4, 20, 16)

sizes = st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 16))


@given(st.integers(1, MOST_USERS), st.integers(1, MOST_EVENTS), st.integers(1, STEPS))
def test_every_run_of_the_ranker_fits_a_bucket(users: int, events: int, steps: int) -> None:
    most_items = 1 + 3 * users * steps + events
    asked = {"users": users, "events": events, "steps": steps, "items": most_items}
    chosen = ALL[smallest(ALL, asked)]
    assert chosen.holds(asked)
    assert all(chosen.tokens <= each.tokens for each in ALL if each.holds(asked))


def test_what_no_bucket_holds_is_refused() -> None:
    with pytest.raises(BadInputs, match="129 users"):
        smallest(ALL, {"users": 129, "events": 1, "steps": 1, "items": 1})


@settings(max_examples=30)
@given(st.lists(sizes, min_size=1, max_size=4))
def test_nothing_of_the_run_before_is_left_in_the_buffers(runs: list[tuple[int, int, int]]) -> None:
    used = Buffers(INPUTS, SMALL)
    for seed, run in enumerate(runs):
        used.fill(random_inputs(seed, *run))
    fresh = Buffers(INPUTS, SMALL)
    fresh.fill(random_inputs(len(runs) - 1, *runs[-1]))
    for name, array in used.arrays.items():
        np.testing.assert_array_equal(array, fresh.arrays[name], name)


def test_padded_events_belong_to_a_user_of_their_own() -> None:
    buffers = Buffers(INPUTS, SMALL)
    buffers.fill(random_inputs(0, 4, 7, 16))
    assert (buffers.arrays["user_row"][7:] == SMALL.users).all()
    assert all(
        not buffers.arrays[each.name][SMALL.users].any()
        for each in INPUTS
        if each.shape[0] == "users"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("user_row", 4), ("user_row", -1), ("event_items", 22), ("send_items", -1),
     ("send_kinds", 200), ("segment", 16), ("hour_of_week", 168)],
)  # fmt: skip
def test_an_index_outside_of_its_table_is_refused(name: str, value: int) -> None:
    inputs = random_inputs(0, 4, 20, 16)
    assert measured(INPUTS, inputs) == {"users": 4, "events": 20, "steps": 16, "items": 22}
    inputs[name].flat[-1] = value
    with pytest.raises(BadInputs, match=name):
        measured(INPUTS, inputs)


@pytest.fixture(scope="module")
def session() -> BucketSession:
    inputs = model_inputs_of(MODEL)
    return BucketSession(MODEL.read_bytes(), inputs, len(HEADS), SMALL, Device(CPU, threads=1), 1)


def test_a_bound_session_answers_as_a_free_one(session: BucketSession) -> None:
    free = ort.InferenceSession(MODEL.read_bytes(), providers=[CPU])
    for seed, run in enumerate([(4, 20, 16), (1, 1, 1), (2, 20, 3), (4, 3, 16)]):
        inputs = random_inputs(seed, *run)
        found = session.run(inputs)
        expected = free.run(["scores", "logits"], inputs)
        np.testing.assert_allclose(found["logits"], expected[1], rtol=0, atol=1e-4)
        np.testing.assert_allclose(found["scores"], expected[0], rtol=0, atol=1e-5)


def test_runs_that_alternate_answer_the_same_bits(session: BucketSession) -> None:
    a, b = random_inputs(1, 4, 20, 16), random_inputs(2, 1, 3, 5)
    answers = [session.run(inputs)["logits"] for inputs in (a, a, a, b, b, b, a, b)]
    for first, second in ((0, 1), (0, 2), (3, 4), (3, 5), (0, 6), (3, 7)):
        np.testing.assert_array_equal(answers[first], answers[second])


def test_masks_and_padding_survive_half_precision(tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    onnx.save(convert_float_to_float16(onnx.load(MODEL), keep_io_types=True), path)
    inputs, device = model_inputs_of(path), Device(CPU, threads=1)
    half = BucketSession(path.read_bytes(), inputs, len(HEADS), SMALL, device, 1)
    exact = ort.InferenceSession(MODEL.read_bytes(), providers=[CPU])
    for seed, run in enumerate([(4, 20, 16), (1, 1, 1), (2, 5, 3)]):
        arrays = random_inputs(seed, *run)
        expected = exact.run(["logits"], arrays)[0]
        np.testing.assert_allclose(half.run(arrays)["logits"], expected, rtol=0, atol=5e-3)


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="there is a GPU")
def test_a_provider_that_silently_falls_back_is_refused() -> None:
    inputs = model_inputs_of(MODEL)
    with pytest.raises(WrongProvider, match="not on CUDAExecutionProvider"):
        BucketSession(MODEL.read_bytes(), inputs, len(HEADS), SMALL, Device(CUDA), 1)
