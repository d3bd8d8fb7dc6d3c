"""Fits the model to a log: masked multi-task loss, early stopping, calibration."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from services.ranker.features.batch import model_inputs, rows
from services.ranker.features.items import Contents
from services.ranker.features.vocabulary import HEADS, Head
from services.ranker.training.calibrate import fit_calibration
from services.ranker.training.log import MASKED, Examples, LogError
from services.ranker.training.model import INPUTS, ModelConfig, RankingModel
from services.ranker.training.split import Split, split

LEAST_POSITIVES = 100
"""A head with fewer positives (or negatives) in the training part stays untrained."""
CLIP_NORM = 1.0


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What a run of training is determined by, beside the log."""

    seed: int = 0
    epochs: int = 8
    patience: int = 3
    """Epochs without a better tuning loss before it stops."""
    batch_rows: int = 512
    learning_rate: float = 1e-3
    """At the start; falls to 0 along a cosine over all epochs."""
    weight_decay: float = 0.02
    threads: int = 1
    """Part of what is reproduced: sums over threads depend on their number. More than one saves
    little at this size, and nothing on a busy machine."""
    model: ModelConfig = field(default_factory=ModelConfig)


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model and what it was trained on."""

    model: RankingModel
    examples: Examples
    contents: Contents
    split: Split
    heads: tuple[Head, ...]
    losses: tuple[float, ...]
    """Tuning loss after each epoch."""


def train(
    examples: Examples,
    contents: Contents,
    config: TrainingConfig | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train on a log. The same log, configuration and machine give the same weights.

    Raises LogError when the log is too short or no head has enough labels.
    """
    config = config or TrainingConfig()
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(config.seed)
    parts = split(examples)
    heads = trainable(examples, parts.train)
    if not heads:
        raise LogError(f"no head has {LEAST_POSITIVES} positives to train on")
    model = RankingModel(config.model)
    _prepare(model, examples, parts.train, heads)
    losses = _fit(model, examples, contents, _labelled(parts, examples, heads), config, progress)
    logits = predict(model, examples, contents, parts.tuning)
    scale, shift = fit_calibration(
        logits, examples.labels[parts.tuning], _weights(examples, parts.tuning)
    )
    with torch.no_grad():
        model.scale.copy_(torch.from_numpy(scale) * model.scale)
        model.shift.copy_(torch.from_numpy(scale) * model.shift + torch.from_numpy(shift))
    return Trained(model, examples, contents, parts, heads, tuple(losses))


def trainable(examples: Examples, part: NDArray[np.int64]) -> tuple[Head, ...]:
    """Heads with enough positives and negatives in these rows."""
    labels = examples.labels[part]
    least = np.minimum((labels == 1).sum(0), (labels == 0).sum(0))
    return tuple(head for head, count in zip(HEADS, least, strict=True) if count >= LEAST_POSITIVES)


def _labelled(parts: Split, examples: Examples, heads: tuple[Head, ...]) -> Split:
    """The parts without rows that label none of the heads: there is nothing to learn from them."""
    columns = [HEADS.index(head) for head in heads]
    known = (examples.labels[:, columns] != MASKED).any(axis=1)
    return replace(
        parts, train=parts.train[known[parts.train]], tuning=parts.tuning[known[parts.tuning]]
    )


def predict(
    model: RankingModel, examples: Examples, contents: Contents, part: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Logits [n, heads] of these rows, as the model calibrates them."""
    model.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(part), 1024):
            arrays = batch(examples, contents, part[start : start + 1024])
            found.append(model(*arrays)[1].numpy())
    return np.concatenate(found).astype(np.float64)


def batch(
    examples: Examples, contents: Contents, index: NDArray[np.int64]
) -> tuple[torch.Tensor, ...]:
    """The model's inputs for these rows, each with its own user."""
    users, events = rows(examples.users, index), rows(examples.events, index)
    inputs = model_inputs(users, events, np.arange(len(index)), contents)
    return tuple(torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in INPUTS)


def _weights(examples: Examples, part: NDArray[np.int64]) -> NDArray[np.float64]:
    return 1.0 / examples.log_probability[part].astype(np.float64)


def _prepare(
    model: RankingModel, examples: Examples, part: NDArray[np.int64], heads: tuple[Head, ...]
) -> None:
    """Start towers at their base rates; untrained heads answer theirs for good, 0 if unknown."""
    weights = _weights(examples, part)[:, None]
    labels = examples.labels[part]
    known = (weights * (labels != MASKED)).sum(0)
    rates = (weights * (labels == 1)).sum(0) / np.maximum(known, 1e-9)
    with torch.no_grad():
        for column, (head, rate) in enumerate(zip(HEADS, rates.tolist(), strict=True)):
            model.trained[column] = head in heads
            model.constants[column] = rate
            if head in heads:
                model.tower_bias(column).fill_(float(np.log(rate / (1 - rate))))


def _fit(
    model: RankingModel,
    examples: Examples,
    contents: Contents,
    parts: Split,
    config: TrainingConfig,
    progress: Progress | None,
) -> list[float]:
    """Train until the tuning loss no longer falls; leaves the best weights in the model."""
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    steps = config.epochs * -(-len(parts.train) // config.batch_rows)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    random = np.random.default_rng(config.seed)
    shares = _label_shares(examples, parts.train)
    losses: list[float] = []
    best = copy.deepcopy(model.state_dict())
    for epoch in range(config.epochs):
        model.train()
        batches = list(_batches(parts.train, config.batch_rows, random))
        task = progress.add_task(f"epoch {epoch + 1}", total=len(batches)) if progress else None
        for index in batches:
            optimiser.zero_grad()
            loss = _loss(model, examples, contents, index, shares)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimiser.step()
            schedule.step()
            if progress and task is not None:
                progress.advance(task)
        losses.append(_tuning_loss(model, examples, contents, parts.tuning))
        if progress and task is not None:
            progress.update(task, description=f"epoch {epoch + 1}: loss {losses[-1]:.5f}")
        if losses[-1] == min(losses):
            best = copy.deepcopy(model.state_dict())
        elif len(losses) - 1 - int(np.argmin(losses)) >= config.patience:
            break
    model.load_state_dict(best)
    return losses


def _batches(
    part: NDArray[np.int64], size: int, random: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    order = random.permutation(part)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _label_shares(examples: Examples, part: NDArray[np.int64]) -> torch.Tensor:
    """Weighted share of rows that label each head [H]; makes heads of rare channels count alike."""
    known = (examples.labels[part] != MASKED) * _weights(examples, part)[:, None]
    return torch.from_numpy(np.maximum(known.mean(0), 1e-9))


def _loss(
    model: RankingModel,
    examples: Examples,
    contents: Contents,
    index: NDArray[np.int64],
    shares: torch.Tensor,
) -> torch.Tensor:
    """Sum over trained heads of the mean cross-entropy over their labelled rows, weighted."""
    _, logits = model(*batch(examples, contents, index))
    labels = torch.from_numpy(examples.labels[index])
    known = (labels != MASKED) & model.trained
    weights = torch.from_numpy(_weights(examples, index))[:, None] * known / shares
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, labels.clamp(min=0).to(logits.dtype), reduction="none"
    )
    return (losses * weights).sum() / len(index)


def _tuning_loss(
    model: RankingModel, examples: Examples, contents: Contents, part: NDArray[np.int64]
) -> float:
    """Mean over trained heads of the weighted log loss, once calibrated: what the rest of the
    training can't improve by calibration alone."""
    logits, labels = predict(model, examples, contents, part), examples.labels[part]
    weights = _weights(examples, part)
    scale, shift = fit_calibration(logits, labels, weights)
    z = logits * scale + shift
    losses = np.logaddexp(0, z) - np.maximum(labels, 0) * z
    known = (labels != MASKED) & model.trained.numpy()
    heads = known.any(axis=0)
    by_head = (losses * known * weights[:, None]).sum(0)[heads]
    return float((by_head / (known * weights[:, None]).sum(0)[heads]).mean())
