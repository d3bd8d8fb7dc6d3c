"""What every backend must do, in process and in a real Triton server alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from deploy.triton.render import render
from services.ranker.acceptance import accept
from services.ranker.backend import MOST_EVENTS, MOST_USERS, Backend, ModelRefused
from services.ranker.features import STEPS, Features, rows
from services.ranker.inprocess import InProcessBackend
from services.ranker.manifest import GOLDEN_FILE, MODEL_FILE, read_manifest
from services.ranker.settings import RankerSettings
from services.ranker.triton import TritonBackend
from services.ranker.triton_model.buckets import BadInputs
from services.ranker.triton_model.sessions import CPU
from tests.service.ranker.model_folders import DEFAULT, copy_model, shifted_model
from tests.service.ranker.triton_process import FEW_BUCKETS, TritonProcess
from tests.unit.ranker.random_inputs import random_inputs

FOLDER = RankerSettings().model_dir / DEFAULT
NEAR = 1e-4
"""Largest difference of logits in single precision."""
SIGMOID = 1.5e-7
"""By how much ONNX Runtime's sigmoid is off: at a score of .001 as much as 1.5e-4 in the logit."""
Render = Callable[[Path], Path]


@pytest.fixture(scope="module", params=["inprocess", "triton"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a second model, which answers otherwise."""
    return shifted_model(tmp_path_factory.mktemp("registry"), "other", 0.5)


@pytest.fixture(scope="module")
def server(
    kind: str, other: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonProcess | None]:
    """With both models in its repository; None for the backend that needs none."""
    if kind == "inprocess":
        yield None
        return
    made = TritonProcess(tmp_path_factory.mktemp("triton"))
    for folder in (FOLDER, other):
        render(folder, made.repository, sizes=FEW_BUCKETS)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def rendered(server: TritonProcess | None) -> Render:
    """Puts a folder where the backend finds it."""

    def put(folder: Path) -> Path:
        if server is not None:
            render(folder, server.repository, sizes=FEW_BUCKETS)
        return folder

    return put


@pytest.fixture
async def backend(server: TritonProcess | None) -> AsyncIterator[Backend]:
    """With the default model loaded."""
    made: Backend
    if server is None:
        made = InProcessBackend(intra_op_threads=1, parallel_runs=2)
    else:
        made = TritonBackend(server.address, timedelta(seconds=10))
    await accept(made, read_manifest(FOLDER), FOLDER)
    yield made
    await made.close()


@cache
def bare_session(folder: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession((folder / MODEL_FILE).read_bytes(), options, providers=[CPU])


def expected(
    inputs: Features, folder: Path = FOLDER, output: str = "scores"
) -> NDArray[np.float32]:
    """Of a bare session."""
    found: NDArray[np.float32] = bare_session(folder).run([output], inputs)[0]
    return found


def assert_near(found: NDArray[np.float32], right: NDArray[np.float32]) -> None:
    """Scores of logits that are NEAR, each made by a sigmoid that is off by SIGMOID at most."""
    exact = right.astype(np.float64)
    bound = NEAR * exact * (1 - exact) + 2 * SIGMOID
    assert (np.abs(found - exact) <= bound).all(), np.abs(found - exact).max()


@pytest.mark.parametrize(
    ("users", "events", "steps"),
    [(1, 1, 1), (1, 32, 16), (1, 33, 16), (1, 32, 17), (3, 50, 40), (8, 160, 64), (9, 160, 64),
     (MOST_USERS, MOST_EVENTS, STEPS)],
)  # fmt: skip
async def test_scores_are_those_of_a_bare_session(
    backend: Backend, users: int, events: int, steps: int
) -> None:
    inputs = random_inputs(users, users, events, steps)
    found = await backend.score(DEFAULT, inputs)
    assert (found.shape, found.dtype) == ((events, 9), np.float32)
    assert_near(found, expected(inputs))
    found = await backend.logits(DEFAULT, inputs)
    right = expected(inputs, output="logits")
    np.testing.assert_allclose(found, right, rtol=0, atol=NEAR)


async def test_runs_that_alternate_answer_the_same_bits(backend: Backend) -> None:
    a, b = random_inputs(1, 8, 150, 60), random_inputs(2, 2, 3, 20)
    answers = [await backend.score(DEFAULT, inputs) for inputs in (a, a, a, b, b, b, a, b)]
    for first, second in ((0, 1), (0, 2), (3, 4), (3, 5), (0, 6), (3, 7)):
        np.testing.assert_array_equal(answers[first], answers[second])
    assert_near(answers[3], expected(b))


async def test_a_score_does_not_depend_on_who_is_ranked_beside(backend: Backend) -> None:
    inputs = random_inputs(3, 8, 40, 30)
    together = await backend.score(DEFAULT, inputs)
    for event in (0, 17, 39):
        alone = _only(inputs, event)
        assert_near(await backend.score(DEFAULT, alone), together[event : event + 1])


def _only(inputs: Features, event: int) -> Features:
    """One event with its user."""
    user = int(inputs["user_row"][event])
    of_event = {name: array for name, array in inputs.items() if name.startswith("event_")}
    users = {name: array for name, array in inputs.items() if name not in {*of_event, "items"}}
    del users["user_row"]
    return {
        **rows(users, slice(user, user + 1)),
        **rows(of_event, slice(event, event + 1)),
        "items": inputs["items"],
        "user_row": np.zeros(1, np.int32),
    }


async def test_concurrent_calls_get_their_own_scores(backend: Backend) -> None:
    runs = [random_inputs(seed, 1 + seed % 8, 20, 1 + 5 * seed) for seed in range(12)]
    found = await asyncio.gather(*(backend.score(DEFAULT, inputs) for inputs in runs))
    for inputs, scores in zip(runs, found, strict=True):
        assert_near(scores, expected(inputs))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
async def test_numbers_that_are_not_finite_stay_in_their_row(
    backend: Backend, value: float
) -> None:
    inputs = random_inputs(4, 4, 20, 10)
    before = await backend.score(DEFAULT, inputs)
    inputs["event_numbers"][7] = value
    after = await backend.score(DEFAULT, inputs)
    assert np.isfinite(after).all()
    others = np.arange(20) != 7
    np.testing.assert_array_equal(after[others], before[others])


def _without(name: str) -> Features:
    inputs = random_inputs(5, 4, 20, 10)
    del inputs[name]
    return inputs


def _with(name: str, value: int) -> Features:
    inputs = random_inputs(5, 4, 20, 10)
    inputs[name].flat[3] = value
    return inputs


@pytest.mark.parametrize(
    "inputs",
    [
        _with("user_row", -1),
        _with("user_row", 4),
        _with("event_items", 22),
        _with("response_items", -1),
        _with("send_kinds", 99),
        _with("segment", 16),
        _without("segment"),
        _without("user_row"),
        random_inputs(5, 4, 20, 10) | {"event_type": np.zeros(19, np.int32)},
        random_inputs(5, 4, 20, 10) | {"event_type": np.zeros(20, np.int64)},
        random_inputs(5, 4, 20, 10) | {"send_kinds": np.zeros((4, 9), np.uint8)},
        random_inputs(5, MOST_USERS + 1, 20, 1),
        random_inputs(5, 1, MOST_EVENTS + 1, 1),
        random_inputs(5, 1, 1, STEPS + 1),
        {name: array[:0] for name, array in random_inputs(5, 4, 20, 10).items()},
    ],
)
async def test_bad_inputs_are_refused_and_the_next_call_is_answered(
    backend: Backend, inputs: Features
) -> None:
    with pytest.raises(BadInputs):
        await backend.score(DEFAULT, inputs)
    good = random_inputs(5, 4, 20, 10)
    found = await backend.score(DEFAULT, good)
    assert_near(found, expected(good))


async def test_a_version_that_was_not_loaded_has_no_scores(backend: Backend, other: Path) -> None:
    with pytest.raises(KeyError):
        await backend.score("other", random_inputs(0, 1, 1, 1))


@pytest.mark.parametrize("wrong", ["altered", "foreign", "cut"])
async def test_a_bad_model_is_refused_and_the_old_one_serves(
    backend: Backend, tmp_path: Path, wrong: str
) -> None:
    changes = {"schema_hash": "0" * 16} if wrong == "foreign" else {}
    folder = copy_model(tmp_path, wrong, **changes)
    if wrong == "altered":
        with (folder / MODEL_FILE).open("ab") as file:
            file.write(b"x")
    elif wrong == "cut":
        (folder / MODEL_FILE).unlink()
    with pytest.raises(ModelRefused, match=wrong):
        await accept(backend, read_manifest(folder), folder)
    assert (await backend.score(DEFAULT, random_inputs(0, 1, 1, 1))).shape == (1, 9)


async def test_a_new_version_takes_over_without_a_dropped_call(
    backend: Backend, other: Path
) -> None:
    inputs = random_inputs(6, 4, 20, 10)
    of = {DEFAULT: expected(inputs), "other": expected(inputs, other)}
    serving = DEFAULT
    seen: list[str] = []

    async def caller() -> None:
        after = 0
        while after < 5:
            version = serving
            assert_near(await backend.score(version, inputs), of[version])
            seen.append(version)
            after += version == "other"

    callers = [asyncio.create_task(caller()) for _ in range(4)]
    await accept(backend, read_manifest(other), other)
    serving = "other"
    await asyncio.gather(*callers)
    assert set(seen) == {DEFAULT, "other"}


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry of models that are refused for their golden set alone."""
    registry = tmp_path_factory.mktemp("strangers")
    shifted_model(registry, "drifted", 2e-4, golden=False)
    copy_model(registry, "lost")
    (registry / "lost" / GOLDEN_FILE).unlink()
    with (copy_model(registry, "swapped") / GOLDEN_FILE).open("ab") as file:
        file.write(b"x")
    return registry


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("drifted", "logits differ by 2.0"),
        ("lost", "golden.npz can't be read"),
        ("swapped", "golden.npz has another SHA-256"),
    ],
)
async def test_a_model_that_misses_its_golden_set_is_refused_and_unloaded(
    backend: Backend, rendered: Render, strangers: Path, version: str, why: str
) -> None:
    folder = rendered(strangers / version)
    with pytest.raises(ModelRefused, match=why):
        await accept(backend, read_manifest(folder), folder)
    with pytest.raises(KeyError):
        await backend.score(version, random_inputs(0, 1, 1, 1))


async def test_a_model_as_near_to_its_golden_set_as_its_precision_is_accepted(
    backend: Backend, rendered: Render, tmp_path: Path
) -> None:
    folder = rendered(shifted_model(tmp_path, "near", 3e-5, golden=False))
    await accept(backend, read_manifest(folder), folder)


async def test_a_model_without_golden_set_is_tried_alone(
    backend: Backend, rendered: Render, tmp_path: Path
) -> None:
    folder = rendered(copy_model(tmp_path, "older", golden_sha256=""))
    await accept(backend, read_manifest(folder), folder)


async def test_an_unloaded_version_has_no_scores_until_it_is_loaded_again(
    backend: Backend, other: Path
) -> None:
    inputs = random_inputs(7, 4, 20, 10)
    await accept(backend, read_manifest(other), other)
    await backend.unload("other")
    await backend.unload("other")
    with pytest.raises(KeyError):
        await backend.score("other", inputs)
    assert (await backend.score(DEFAULT, inputs)).shape == (20, 9)
    await accept(backend, read_manifest(other), other)
    assert_near(await backend.score("other", inputs), expected(inputs, other))
