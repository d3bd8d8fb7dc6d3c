"""The Triton model repository as rendered."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest

from deploy.triton.render import BUCKETS, RenderError, _size, render
from services.ranker.manifest import HALF_OF, file_sha256
from services.ranker.settings import RankerSettings
from services.ranker.triton_model.serving import read_serving

FOLDER = RankerSettings().model_dir / "bootstrap-1"


def test_a_version_becomes_a_model_with_its_code_and_buckets(tmp_path: Path) -> None:
    made = render(FOLDER, tmp_path, instances=2, threads=3)
    assert made == tmp_path / "bootstrap-1"
    serving = read_serving(made / "1")
    assert [(each.users, each.events, each.steps) for each in serving.buckets] == list(BUCKETS)
    assert (serving.provider, serving.threads) == ("CPUExecutionProvider", 3)
    assert (made / "1" / "model.onnx").read_bytes() == (FOLDER / "model.onnx").read_bytes()
    config = (made / "config.pbtxt").read_text()
    assert "max_batch_size: 0" in config
    assert "instance_group [{ count: 2, kind: KIND_CPU }]" in config
    assert 'input [{ name: "counts", data_type: TYPE_INT32, dims: [-1, 15, 3] }]' in config


def test_on_a_gpu(tmp_path: Path) -> None:
    made = render(FOLDER, tmp_path, gpu=True)
    assert read_serving(made / "1").provider == "CUDAExecutionProvider"
    assert "KIND_GPU" in (made / "config.pbtxt").read_text()


def test_rendering_again_replaces_all_of_it(tmp_path: Path) -> None:
    made = render(FOLDER, tmp_path)
    (made / "1" / "old.py").touch()
    render(FOLDER, tmp_path)
    assert not (made / "1" / "old.py").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bootstrap-1"]


def test_the_half_precision_variant(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match=r"no model\.fp16\.onnx"):
        render(FOLDER, tmp_path / "repository", half=True)
    folder = shutil.copytree(FOLDER, tmp_path / "bootstrap-1")
    shutil.copy(folder / "model.onnx", folder / "model.fp16.onnx")
    with pytest.raises(RenderError, match=r"was made from another model\.onnx"):
        render(folder, tmp_path / "repository", half=True)
    model = onnx.load(folder / "model.onnx")
    onnx.helper.set_model_props(model, {HALF_OF: file_sha256(folder / "model.onnx")})
    onnx.save(model, folder / "model.fp16.onnx")
    made = render(folder, tmp_path / "repository", half=True)
    assert read_serving(made / "1").model_file == "model.fp16.onnx"
    assert not (made / "1" / "model.onnx").exists()


def test_an_altered_model_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "bootstrap-1")
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(RenderError, match="another SHA-256"):
        render(folder, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_buckets_must_take_every_run_and_be_few(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="128x2048x64"):
        render(FOLDER, tmp_path, sizes=[(1, 32, 16)])
    many = [(1, events, 64) for events in range(1, 13)]
    with pytest.raises(RenderError, match="at most 12"):
        render(FOLDER, tmp_path, sizes=[*many, BUCKETS[-1]])


def test_sizes_are_read() -> None:
    assert _size("32x640x16") == (32, 640, 16)
    for wrong in ("32x640", "axbxc", "0x1x1"):
        with pytest.raises(Exception, match="USERSxEVENTSxSTEPS"):
            _size(wrong)
