"""Training on a made log: it learns, is reproducible, and exports what it learned."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from services.ranker.acceptance import accept
from services.ranker.backend import ModelRefused
from services.ranker.features import HEADS, Head, model_inputs, rows
from services.ranker.golden import read_golden
from services.ranker.inprocess import InProcessBackend
from services.ranker.manifest import MODEL_FILE, file_sha256, read_manifest, write_manifest
from services.ranker.training.calibrate import fit_calibration, information
from services.ranker.training.export import export, weights_sha256
from services.ranker.training.fit import Trained, TrainingConfig, predict, train
from services.ranker.training.log import MASKED, LogError, unlabelled
from services.ranker.training.model import ModelConfig
from services.ranker.training.multitask import INPUT_NAMES
from services.ranker.training.split import split
from tests.unit.ranker.made_log import made_log

SMALL = TrainingConfig(
    seed=5,
    epochs=4,
    batch_rows=128,
    learning_rate=4e-3,
    threads=1,
    model=ModelConfig(sequence_width=16, sequence_layers=1, width=32, mixer_layers=1),
)


@pytest.fixture(scope="module")
def trained() -> Trained:
    examples, items = made_log(users=90, days=20)
    return train(examples, items, SMALL)


@pytest.fixture(scope="module")
def folder(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "made-1"
    export(trained, [], folder)
    return folder


def test_it_beats_a_constant(folder: Path) -> None:
    metrics = read_manifest(folder).metrics["PUSH_OPEN"]
    _, _, high = metrics["normalised_entropy"]
    assert high is not None
    assert high < 1.0
    assert metrics["auc"][0] is not None
    assert metrics["auc"][0] > 0.65


def test_only_heads_with_labels_are_trained(trained: Trained, folder: Path) -> None:
    assert trained.heads == (Head.PUSH_OPEN,)
    manifest = read_manifest(folder)
    assert manifest.trained_heads == (Head.PUSH_OPEN,)
    assert "Untrained: email_click" in (folder / "card.md").read_text()


def test_the_same_seed_gives_the_same_weights() -> None:
    examples, items = made_log(users=80, days=14)
    config = replace(SMALL, epochs=1)
    first, again = (weights_sha256(train(examples, items, config).model) for _ in range(2))
    other = weights_sha256(train(examples, items, replace(config, seed=6)).model)
    assert first == again != other


async def test_the_exported_model_answers_as_the_trained_one(
    trained: Trained, folder: Path
) -> None:
    backend = InProcessBackend(intra_op_threads=1, parallel_runs=1)
    manifest = read_manifest(folder)
    await accept(backend, manifest, folder)
    part = trained.split.validation[:50]
    examples = trained.examples
    users, events = rows(examples.users, part), rows(examples.events, part)
    inputs = model_inputs(users, events, np.arange(len(part)), trained.contents)
    scores = await backend.score(manifest.version, inputs)
    await backend.close()
    logits = predict(trained.model, examples, trained.contents, part)
    column = HEADS.index(Head.PUSH_OPEN)
    np.testing.assert_allclose(scores[:, column], 1 / (1 + np.exp(-logits[:, column])), atol=1e-5)
    assert (scores[:, HEADS.index(Head.APP_DELETE)] == 0).all()


@pytest.mark.parametrize("damage", ["bytes", "schema", "not a model", "missing"])
async def test_a_damaged_model_is_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / folder.name))
    manifest = read_manifest(copy)
    if damage == "bytes":
        (copy / MODEL_FILE).write_bytes((copy / MODEL_FILE).read_bytes() + b"x")
    elif damage == "schema":
        manifest = replace(manifest, schema_hash="0" * 16)
    elif damage == "not a model":
        (copy / MODEL_FILE).write_bytes(b"no model")
        manifest = replace(manifest, sha256=file_sha256(copy / MODEL_FILE))
    else:
        (copy / MODEL_FILE).unlink()
    write_manifest(copy, manifest)
    backend = InProcessBackend(intra_op_threads=1, parallel_runs=1)
    with pytest.raises(ModelRefused):
        await accept(backend, manifest, copy)
    await backend.close()


def test_split_keeps_an_embargo_and_users_apart() -> None:
    examples, _ = made_log(users=30, days=10)
    parts = split(examples)
    gap = examples.time[parts.validation].min() - examples.time[parts.train].max()
    assert gap >= parts.embargo.total_seconds() == 86400
    tuning = {examples.user_id[row] for row in parts.tuning.tolist()}
    assert tuning.isdisjoint(examples.user_id[row] for row in parts.validation.tolist())


def test_the_embargo_is_the_longest_window_that_labels_come_from() -> None:
    examples, _ = made_log(users=30, days=20)
    labels = examples.labels.copy()
    labels[:, HEADS.index(Head.SESSION_3D)] = 0
    parts = split(replace(examples, labels=labels))
    gap = examples.time[parts.validation].min() - examples.time[parts.train].max()
    assert gap >= parts.embargo.total_seconds() == 3 * 86400


def test_a_log_without_enough_is_refused() -> None:
    examples, items = made_log(users=30, days=10)
    with pytest.raises(LogError, match="too short"):
        split(examples.take(np.flatnonzero(examples.time < examples.time.min() + 2 * 86400)))
    with pytest.raises(LogError, match="positives"):
        train(examples, items, SMALL)
    with pytest.raises(LogError, match="no labels"):
        split(replace(examples, labels=unlabelled(len(examples))))


def test_calibration_recovers_scale_and_shift() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(-1, 2, (20_000, len(HEADS)))
    chance = 1 / (1 + np.exp(-(0.5 * logits - 0.7)))
    labels = (random.random(logits.shape) < chance).astype(np.int8)
    labels[:, 2] = -1
    scale, shift = fit_calibration(logits, labels, np.ones(len(logits)), np.zeros(len(HEADS)))
    assert scale[0] == pytest.approx(0.5, abs=0.03)
    assert shift[0] == pytest.approx(-0.7, abs=0.06)
    assert (scale[2], shift[2]) == (1.0, 0.0)


def test_a_few_labels_move_the_level_less_than_they_say() -> None:
    labels = np.zeros((300, len(HEADS)), np.int8)
    labels[:30] = 1  # a tenth, where the training found a fifth
    logits = np.full(labels.shape, np.log(0.2 / 0.8))
    said = np.log(0.1 / 0.9) - logits[0, 0]
    learned = information(np.tile(labels[:150], (6, 1)), np.ones(900))
    moved = []
    for times in (1, 100):
        rows = np.tile(logits, (times, 1)), np.tile(labels, (times, 1)), np.ones(300 * times)
        scale, shift = fit_calibration(*rows, learned)
        moved.append((scale[0] - 1) * logits[0, 0] + shift[0])
    assert 0.3 < moved[0] / said < 0.7
    assert moved[1] / said == pytest.approx(1, abs=0.05)


def test_a_doubtful_scale_leaves_the_level_alone() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(-4, 1, (3000, len(HEADS)))
    labels = (random.random(logits.shape) < 0.02).astype(np.int8)  # whatever the logits say
    scale, shift = fit_calibration(logits, labels, np.ones(3000), np.zeros(len(HEADS)))
    scores = 1 / (1 + np.exp(-(logits * scale + shift)))
    assert (scale < 0.8).all()
    assert scores.mean(0) == pytest.approx(labels.mean(0))


def test_rows_say_of_the_level_what_their_weights_and_spread_do() -> None:
    labels = np.array([[1, 0], [0, MASKED], [0, 0], [1, MASKED]], np.int8)
    assert information(labels, np.array([1.0, 1.0, 2.0, 4.0])) == pytest.approx([5 * 3 / 8, 0.0])


def test_the_golden_set_holds_what_the_trained_model_answers(
    trained: Trained, folder: Path
) -> None:
    golden = read_golden(read_manifest(folder), folder)
    assert golden is not None
    inputs, logits = golden
    users = np.bincount(inputs["user_row"])
    assert len(users) > 1
    assert (users > 1).all()
    steps = (inputs["send_kinds"] > 0).sum(1)
    assert steps.min() == 0
    assert steps.max() == inputs["send_kinds"].shape[1]
    with torch.no_grad():
        arrays = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in INPUT_NAMES]
        np.testing.assert_array_equal(trained.model(*arrays)[1].numpy(), logits)
