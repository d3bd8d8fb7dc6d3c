"""Writes a trained model as a folder of the registry, with its card and golden set."""

import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from services.ranker.features import (
    HEADS,
    Features,
    FeatureState,
    ItemTable,
    UserSignals,
    concatenate,
    model_inputs,
    rows,
    schema_hash,
    user_features,
)
from services.ranker.features.schema import SEQUENCES
from services.ranker.golden import PARITY, write_golden
from services.ranker.inputs import INPUTS
from services.ranker.manifest import (
    CARD_FILE,
    MODEL_FILE,
    Manifest,
    file_hashes,
    file_sha256,
    write_manifest,
)
from services.ranker.training.card import card
from services.ranker.training.evaluation import draws, evaluate_head
from services.ranker.training.fit import Trained, batch, predict
from services.ranker.training.log import MASKED
from services.ranker.training.logistic import sigmoid
from services.ranker.training.multitask import INPUT_NAMES, MultiTaskModel
from services.ranker.triton_model.buckets import OUTPUTS
from services.ranker.triton_model.sessions import CPU

OPSET = 18
PARITY_ROWS = 256
GOLDEN_USERS = 8
GOLDEN_EVENTS = 45


class ParityError(Exception):
    """The exported model answers otherwise than the trained one."""


def export(trained: Trained, logs: Sequence[Path], folder: Path) -> Manifest:
    """Write the folder of a model version named like the folder. Raises ParityError.

    `logs`: the files it was trained on, to be named in the manifest with their hashes."""
    folder.mkdir(parents=True, exist_ok=True)
    examples, validation = trained.examples, trained.split.validation
    sample = batch(examples, trained.contents, validation[:PARITY_ROWS])
    write_onnx(trained.model, sample, folder / MODEL_FILE)
    check_parity(trained.model, sample, folder / MODEL_FILE)
    manifest = Manifest(
        version=folder.name,
        train_time=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=trained.config.seed,
        schema_hash=schema_hash(),
        sha256=file_sha256(folder / MODEL_FILE),
        weights_sha256=weights_sha256(trained.model),
        parameters=sum(weights.numel() for weights in trained.model.parameters()),
        heads=HEADS,
        trained_heads=trained.heads,
        log={"files": file_hashes(logs)} | _log_facts(trained),
        metrics=_metrics(trained, trained.config.seed),
        golden_sha256=_write_golden(trained, folder),
    )
    write_manifest(folder, manifest)
    (folder / CARD_FILE).write_text(card(manifest))
    return manifest


def write_onnx(model: MultiTaskModel, sample: tuple[torch.Tensor, ...], path: Path) -> None:
    """Export with free numbers of users, events, items and steps, and nothing about the machine."""
    model.eval()
    axes = {
        each.name: {place: axis for place, axis in enumerate(each.shape) if isinstance(axis, str)}
        for each in INPUTS
    }
    axes |= {name: {0: "events"} for name in OUTPUTS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            sample,
            path,
            input_names=[each.name for each in INPUTS],
            output_names=list(OUTPUTS),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    exported = onnx.load(path)
    for node in exported.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(exported)
    onnx.save(exported, path)


def check_parity(model: MultiTaskModel, sample: tuple[torch.Tensor, ...], path: Path) -> None:
    """Compare logits on a sample. Raises ParityError beyond PARITY."""
    session = ort.InferenceSession(path.read_bytes(), providers=[CPU])
    feeds = {each.name: array.numpy() for each, array in zip(INPUTS, sample, strict=True)}
    answered = session.run(["logits"], feeds)[0]
    with torch.no_grad():
        expected = model(*sample)[1].numpy()
    difference, most = float(np.abs(answered - expected).max()), PARITY[MODEL_FILE]
    if not difference <= most:
        raise ParityError(f"logits differ by {difference:.2e}, more than {most:.0e}")


def golden_inputs(trained: Trained) -> Features:
    """Validation rows: users from the shortest history to the longest, and one without any; of
    events each has several."""
    examples, part = trained.examples, trained.split.validation
    steps = sum((examples.users[f"{name}_kinds"][part] > 0).sum(1) for name in SEQUENCES)
    by_history = part[np.argsort(steps, kind="stable")]
    nobody = user_features([FeatureState()], [UserSignals()], 0, ItemTable())
    users = concatenate([rows(examples.users, _spread(by_history, GOLDEN_USERS)), nobody])
    events = rows(examples.events, _spread(part, GOLDEN_EVENTS))
    return model_inputs(
        users, events, np.arange(GOLDEN_EVENTS) % (GOLDEN_USERS + 1), trained.contents
    )


def _spread(part: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """So many of them, from the first to the last."""
    return part[np.linspace(0, len(part) - 1, count).astype(np.int64)]


def _write_golden(trained: Trained, folder: Path) -> str:
    inputs = golden_inputs(trained)
    with torch.no_grad():
        arrays = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in INPUT_NAMES]
        _, logits = trained.model(*arrays)
    return write_golden(folder, inputs, logits.numpy())


def weights_sha256(model: MultiTaskModel) -> str:
    """Hash of all weights by name."""
    digest = sha256()
    for name, weights in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weights.numpy().tobytes())
    return digest.hexdigest()


def _log_facts(trained: Trained) -> dict[str, Any]:
    examples, parts = trained.examples, trained.split
    labels = examples.labels
    return {
        "rows": len(examples),
        "users": examples.user_count,
        "time": examples.span,
        "train_rows": len(parts.train),
        "tuning_rows": len(parts.tuning),
        "validation_rows": len(parts.validation),
        "embargo_days": parts.embargo.total_seconds() / 86400,
        "negatives_kept": {
            head.name: share
            for head, share in trained.config.negatives_kept.items()
            if head in trained.heads
        },
        "epoch_losses": [round(loss, 6) for loss in trained.losses],
        "labels": _by_head((labels != MASKED).sum(0)),
        "positives": _by_head((labels == 1).sum(0)),
    }


def _by_head(counts: NDArray[np.int64]) -> dict[str, int]:
    return {head.name: int(count) for head, count in zip(HEADS, counts, strict=True)}


def _metrics(trained: Trained, seed: int) -> dict[str, dict[str, list[float | None]]]:
    """Metrics of the trained heads on the validation part."""
    part = trained.split.validation
    logits = predict(trained.model, trained.examples, trained.contents, part)
    scores, examples = sigmoid(logits), trained.examples.take(part)
    drawn = draws(examples.user_count, seed)
    found: dict[str, dict[str, list[float | None]]] = {}
    for head in trained.heads:
        overall = next(evaluate_head(head, examples, scores[:, HEADS.index(head)], drawn), None)
        if overall is not None:
            metrics = overall.metrics.items()
            found[head.name] = {name: each.estimate().as_json() for name, each in metrics}
    return found
