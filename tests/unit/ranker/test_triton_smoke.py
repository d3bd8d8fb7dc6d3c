"""The GPU's smoke script, as far as a CPU can show it."""

from __future__ import annotations

from dataclasses import replace

import onnxruntime as ort
import pytest
from click.testing import CliRunner

from deploy.triton import smoke
from deploy.triton.render import bucket, model_inputs_of
from services.ranker.settings import RankerSettings
from services.ranker.triton_model.sessions import CPU, CUDA, Device

FOLDER = RankerSettings().model_dir / "bootstrap-1"


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="there is a GPU")
def test_it_says_that_there_is_no_gpu() -> None:
    ended = CliRunner().invoke(smoke.main, [str(FOLDER)])
    assert ended.exit_code == 2
    assert "No GPU" in ended.output


def test_a_bucket_is_compared_with_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "TIMED_RUNS", 2)
    model = (FOLDER / "model.onnx").read_bytes()
    exact = ort.InferenceSession(model, providers=[CPU])
    inputs = model_inputs_of(FOLDER / "model.onnx")
    tried = smoke.try_bucket(model, exact, inputs, bucket(2, 9, 8), Device(CPU, threads=1), 1)
    assert smoke.problems([tried], half=False, on_gpu=False) == []
    assert tried.difference < 1e-4


def test_what_fails_is_named() -> None:
    good = smoke.Tried(bucket(2, 9, 8), 1e-6, True, 0.1, 0.2)
    assert smoke.problems([good], half=False, on_gpu=True) == []
    far = smoke.problems([replace(good, difference=float("nan"))], half=False, on_gpu=True)
    assert "differ by nan" in far[0]
    leaking = smoke.problems([replace(good, repeats=False)], half=False, on_gpu=True)
    assert "answers otherwise" in leaking[0]
    slow = smoke.problems([replace(good, with_ms=0.2)], half=False, on_gpu=True)
    assert "none replays" in slow[0]
