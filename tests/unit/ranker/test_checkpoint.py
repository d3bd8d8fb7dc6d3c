"""A run that was stopped anywhere goes on to the same weights."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from services.ranker.training.checkpoint import Checkpoint
from services.ranker.training.export import weights_sha256
from services.ranker.training.fit import TrainingConfig, train
from services.ranker.training.model import ModelConfig
from tests.unit.ranker.made_log import made_log

CONFIG = TrainingConfig(
    seed=5,
    epochs=2,
    batch_rows=256,
    learning_rate=4e-3,
    model=ModelConfig(sequence_width=16, sequence_layers=1, width=32, mixer_layers=1),
)
BATCHES = 4
"""Of an epoch."""


class Told(Checkpoint):
    """Writes after every batch, and tells of each on standard output."""

    def __init__(self, path: Path, run: str = "made") -> None:
        super().__init__(path, run, every_s=0)
        self.writes = 0

    def save(self, state: Mapping[str, Any]) -> None:
        super().save(state)
        self.writes += 1
        print("saved", flush=True)


def run(checkpoint: Checkpoint | None) -> str:
    examples, items = made_log(users=80, days=14)
    return weights_sha256(train(examples, items, CONFIG, checkpoint=checkpoint).model)


@pytest.fixture(scope="module")
def undisturbed() -> str:
    return run(None)


@pytest.mark.parametrize("writes", [2, BATCHES + 1])
def test_killed_runs_go_on_to_the_same_weights(
    tmp_path: Path, undisturbed: str, writes: int
) -> None:
    path = tmp_path / "checkpoint.pt"
    told = [sys.executable, "-c", f"from {__name__} import *; run(Told(Path({str(path)!r})))"]
    with subprocess.Popen(told, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(writes):
            assert process.stdout.readline() == "saved\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    rest = Told(path)
    assert run(rest) == undisturbed
    assert 0 < rest.writes <= CONFIG.epochs * (BATCHES + 1) - writes


@pytest.mark.parametrize("damage", ["other run", "cut", "empty"])
def test_what_is_not_of_this_run_is_left(tmp_path: Path, undisturbed: str, damage: str) -> None:
    path = tmp_path / "checkpoint.pt"
    Told(path, "another").save({"losses": []})
    if damage != "other run":
        path.write_bytes(path.read_bytes()[:100] if damage == "cut" else b"")
    checkpoint = Checkpoint(path, "made")
    assert checkpoint.load() is None
    assert run(checkpoint) == undisturbed
    kept = checkpoint.load()
    assert kept is not None
    assert len(kept["losses"]) == CONFIG.epochs
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []
