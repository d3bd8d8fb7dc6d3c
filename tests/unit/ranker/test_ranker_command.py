"""heliograph ranker train and evaluate, from a log to figures."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from services.cli import main
from services.ranker.manifest import read_manifest
from services.ranker.training.checkpoint import CHECKPOINT_FILE
from services.ranker.training.evaluation import METRICS, RESAMPLES
from services.ranker.training.log import write_log
from tests.unit.ranker.made_log import made_log


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["ranker", *map(str, arguments)])


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "made.parquet"
    write_log(path, *made_log(users=80, days=14))
    return path


@pytest.fixture(scope="module")
def model(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "made-1"
    done = run(
        "train", "--log", log, "--out", folder, "--epochs", 1, "--negatives", "push_open=0.5"
    )
    assert done.exit_code == 0, done.output
    assert done.output == f"{folder}: push_open\n"  # no bar without a terminal
    return folder


def test_training_leaves_a_model_and_no_checkpoint(model: Path) -> None:
    names = ["card.md", "golden.npz", "model.json", "model.onnx"]
    assert sorted(path.name for path in model.iterdir()) == names
    assert read_manifest(model).log["negatives_kept"] == {"PUSH_OPEN": 0.5}
    assert "| push_open | 1,120 |" in (model / "card.md").read_text()


def test_the_variant_for_gpus_stands_beside_its_model(
    model: Path, log: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model, tmp_path / model.name)
    done = run("half", "--model", folder, "--log", log)
    assert done.exit_code == 0, done.output
    assert "logits differ by" in done.output
    assert (folder / "model.fp16.onnx").stat().st_size < (folder / "model.onnx").stat().st_size
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x")
    done = run("half", "--model", folder, "--log", log)
    assert done.exit_code == 1
    assert "another SHA-256" in done.output


def test_evaluation_on_the_training_log_is_of_the_held_out_rows(
    model: Path, log: Path, tmp_path: Path
) -> None:
    out = tmp_path / "figures" / "evaluation.json"
    done = run("evaluate", "--model", model, "--log", log, "--json", out)
    assert done.exit_code == 0, done.output
    assert "push_open" in done.output
    found = json.loads(out.read_text())
    assert found["model"] == "made-1"
    assert found["rows"] == "held-out"
    assert found["row_count"] == read_manifest(model).log["validation_rows"]
    assert found["resamples"] == RESAMPLES
    (group,) = found["heads"]["PUSH_OPEN"]
    assert group["segments"] == ["core"]
    assert group["metrics"].keys() == METRICS.keys()
    np.testing.assert_allclose(
        group["metrics"]["auc"], read_manifest(model).metrics["PUSH_OPEN"]["auc"], atol=1e-3
    )


def test_another_log_counts_whole_and_models_are_compared(
    model: Path, log: Path, tmp_path: Path
) -> None:
    other, out = tmp_path / "other.parquet", tmp_path / "evaluation.json"
    examples, items = made_log(users=40, days=5, seed=3)
    ids = [f"other-{decision}" for decision in examples.decision_id]
    write_log(other, replace(examples, decision_id=ids), items)
    done = run("evaluate", "--model", model, "--against", model, "--log", other, "--json", out)
    assert done.exit_code == 0, done.output
    assert "made-1 less made-1" in done.output
    found = json.loads(out.read_text())
    assert (found["rows"], found["row_count"]) == ("all", 200)
    (group,) = found["against"]["heads"]["PUSH_OPEN"]
    assert group["differences"]["auc"] == [0, 0, 0]
    mixed = run("evaluate", "--model", model, "--log", log, "--log", other)
    assert mixed.exit_code == 1
    assert "made-1 was trained on made.parquet, but not" in mixed.output


def test_what_cannot_be_used_is_told(model: Path, log: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(log.read_bytes()[:-100])
    for command in (("train", "--out", tmp_path / "new"), ("evaluate", "--model", model)):
        done = run(*command, "--log", cut)
        assert done.exit_code == 1
        assert "cut.parquet: not a whole Parquet file" in done.output
    twice = run("train", "--log", log, "--log", log, "--out", tmp_path / "new")
    assert "stands in the logs twice" in twice.output
    assert run("evaluate", "--model", tmp_path, "--log", log).exit_code == 1
    for share in ("push_open", "push_open=0", "push_open=2", "other=.5"):
        wrong = run("train", "--log", log, "--out", tmp_path / "new", "--negatives", share)
        assert wrong.exit_code == 2
    assert not (tmp_path / "new" / CHECKPOINT_FILE).exists()
