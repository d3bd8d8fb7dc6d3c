"""Fits the model to a log: masked multi-task loss, early stopping, calibration."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from services.ranker.features.items import Contents
from services.ranker.features.vocabulary import HEADS, Head
from services.ranker.training.calibrate import fit_calibration, information
from services.ranker.training.checkpoint import Checkpoint
from services.ranker.training.downsampling import corrections, learned
from services.ranker.training.log import MASKED, Examples, LogError
from services.ranker.training.model import ModelConfig, RankingModel
from services.ranker.training.multitask import INPUT_NAMES, MultiTaskModel
from services.ranker.training.split import Split, split

LEAST_POSITIVES = 100
"""A head with fewer positives (or negatives) in the training part stays untrained."""
CLIP_NORM = 1.0


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What a run of training is determined by, beside the log."""

    seed: int = 0
    epochs: int = 4
    patience: int = 3
    """Epochs without a better tuning loss before it stops."""
    batch_rows: int = 512
    learning_rate: float = 1e-3
    """At the start; falls to 0 along a cosine over all epochs."""
    weight_decay: float = 0.02
    threads: int = 1
    """Part of what is reproduced: sums over threads depend on their number. More than one saves
    little at this size, and nothing on a busy machine."""
    negatives_kept: Mapping[Head, float] = field(
        default_factory=lambda: {head: head.negatives_kept for head in HEADS}
    )
    """Share of each head's negatives that it learns from; see downsampling."""
    model: ModelConfig = field(default_factory=ModelConfig)


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model and what it was trained on."""

    model: MultiTaskModel
    examples: Examples
    contents: Contents
    split: Split
    heads: tuple[Head, ...]
    losses: tuple[float, ...]
    """Tuning loss after each epoch."""
    config: TrainingConfig


def train(
    examples: Examples,
    contents: Contents,
    config: TrainingConfig | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    build: Callable[[ModelConfig], MultiTaskModel] = RankingModel,
) -> Trained:
    """Train on a log. The same log, configuration and machine give the same weights, also when a
    run that was killed goes on from its checkpoint.

    Raises LogError when the log is too short or no head has enough labels.
    """
    config = config or TrainingConfig()
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(config.seed)
    parts = split(examples)
    used = learned(examples, parts.train, config.negatives_kept)
    heads = trainable(examples, used)
    if not heads:
        raise LogError(f"no head has {LEAST_POSITIVES} positives to train on")
    model = build(config.model)
    _prepare(model, examples, parts.train, heads, corrections(config.negatives_kept))
    used &= model.trained.numpy()
    descent = Descent(model, examples, contents, _labelled(parts, examples, used), used, config)
    descent.run(progress, checkpoint)
    logits = predict(model, examples, contents, parts.tuning)
    tuning = parts.tuning
    scale, shift = fit_calibration(
        logits, examples.labels[tuning], examples.weights[tuning], descent.told
    )
    with torch.no_grad():
        model.scale.copy_(torch.from_numpy(scale) * model.scale)
        model.shift.copy_(torch.from_numpy(scale) * model.shift + torch.from_numpy(shift))
    return Trained(model, examples, contents, parts, heads, tuple(descent.losses), config)


def trainable(examples: Examples, used: NDArray[np.bool_]) -> tuple[Head, ...]:
    """Heads with enough positives and negatives among the labels used [n, heads]."""
    least = np.minimum(
        (used & (examples.labels == 1)).sum(0), (used & (examples.labels == 0)).sum(0)
    )
    return tuple(head for head, count in zip(HEADS, least, strict=True) if count >= LEAST_POSITIVES)


def _labelled(parts: Split, examples: Examples, used: NDArray[np.bool_]) -> Split:
    """The parts without rows that label no head that is trained: there is nothing to learn from
    them."""
    known = (examples.labels != MASKED) & used.any(axis=0)
    return replace(
        parts,
        train=parts.train[used[parts.train].any(axis=1)],
        tuning=parts.tuning[known[parts.tuning].any(axis=1)],
    )


def predict(
    model: MultiTaskModel, examples: Examples, contents: Contents, part: NDArray[np.int64]
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
    inputs = examples.inputs(index, contents)
    return tuple(torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in INPUT_NAMES)


def _prepare(
    model: MultiTaskModel,
    examples: Examples,
    part: NDArray[np.int64],
    heads: tuple[Head, ...],
    moved: NDArray[np.float32],
) -> None:
    """Start towers at their base rates; untrained heads answer theirs for good, 0 if unknown.

    `moved` [heads]: the correction for negatives left out, which becomes part of the shift.
    """
    weights = examples.weights[part, None]
    labels = examples.labels[part]
    known = (weights * (labels != MASKED)).sum(0)
    rates = (weights * (labels == 1)).sum(0) / np.maximum(known, 1e-9)
    with torch.no_grad():
        for column, (head, rate) in enumerate(zip(HEADS, rates.tolist(), strict=True)):
            model.trained[column] = head in heads
            model.constants[column] = rate
            if head in heads:
                model.shift[column] = float(moved[column])
                start = float(np.log(rate / (1 - rate))) - float(moved[column])
                model.tower_bias(column).fill_(start)


class Descent:
    """Trains until the tuning loss no longer falls, from where it stands.

    `used` [n, heads] marks the labels that the loss counts, of rows in `parts.train`.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        examples: Examples,
        contents: Contents,
        parts: Split,
        used: NDArray[np.bool_],
        config: TrainingConfig,
    ) -> None:
        self.losses: list[float] = []
        self._model, self._examples, self._contents = model, examples, contents
        self._parts, self._used, self._config = parts, used, config
        self._weights = examples.weights
        self._shares = _label_shares(examples, used, parts.train)
        self.told = information(examples.labels[parts.train], examples.weights[parts.train])
        self._optimiser = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        steps = config.epochs * -(-len(parts.train) // config.batch_rows)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimiser, steps)
        self._random = np.random.default_rng(config.seed)
        self._epoch_random = self._random.bit_generator.state
        self._done = 0  # batches of the running epoch
        self._best = copy.deepcopy(model.state_dict())

    def run(self, progress: Progress | None = None, checkpoint: Checkpoint | None = None) -> None:
        """Go on from the checkpoint to the end; leaves the best weights in the model."""
        kept = checkpoint.load() if checkpoint else None
        if kept is not None:
            self._restore(kept)
        while not self._has_ended():
            self._epoch(progress, checkpoint)
            if checkpoint:
                checkpoint.save(self._state())
        self._model.load_state_dict(self._best)

    def _has_ended(self) -> bool:
        since_best = len(self.losses) - 1 - int(np.argmin(self.losses)) if self.losses else 0
        return len(self.losses) >= self._config.epochs or since_best >= self._config.patience

    def _epoch(self, progress: Progress | None, checkpoint: Checkpoint | None) -> None:
        self._model.train()
        batches = list(_batches(self._parts.train, self._config.batch_rows, self._random))
        name, total = f"epoch {len(self.losses) + 1}", len(batches)
        task = progress.add_task(name, total=total, completed=self._done) if progress else None
        for index in batches[self._done :]:
            self._step(index)
            self._done += 1
            if progress and task is not None:
                progress.advance(task)
            if checkpoint and checkpoint.is_due:
                checkpoint.save(self._state())
        part = self._parts.tuning
        self.losses.append(
            _tuning_loss(self._model, self._examples, self._contents, part, self.told)
        )
        if progress and task is not None:
            progress.update(task, description=f"{name}: loss {self.losses[-1]:.5f}")
        if self.losses[-1] == min(self.losses):
            self._best = copy.deepcopy(self._model.state_dict())
        self._epoch_random, self._done = self._random.bit_generator.state, 0

    def _step(self, index: NDArray[np.int64]) -> None:
        self._optimiser.zero_grad()
        logits = self._model.raw_logits(
            dict(zip(INPUT_NAMES, batch(self._examples, self._contents, index), strict=True))
        )
        loss = masked_loss(
            logits,
            torch.from_numpy(self._examples.labels[index]),
            torch.from_numpy(self._used[index]),
            torch.from_numpy(self._weights[index]),
            self._shares,
        )
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), CLIP_NORM)
        self._optimiser.step()
        self._schedule.step()

    def _state(self) -> dict[str, Any]:
        return {
            "model": self._model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "best": self._best,
            "losses": self.losses,
            "done": self._done,
            "numpy_random": self._epoch_random,
            "torch_random": torch.get_rng_state(),
        }

    def _restore(self, kept: Mapping[str, Any]) -> None:
        self._model.load_state_dict(kept["model"])
        self._optimiser.load_state_dict(kept["optimiser"])
        self._schedule.load_state_dict(kept["schedule"])
        self._best, self.losses, self._done = kept["best"], kept["losses"], kept["done"]
        self._epoch_random = self._random.bit_generator.state = kept["numpy_random"]
        torch.set_rng_state(kept["torch_random"])


def _batches(
    part: NDArray[np.int64], size: int, random: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    order = random.permutation(part)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _label_shares(
    examples: Examples, used: NDArray[np.bool_], part: NDArray[np.int64]
) -> torch.Tensor:
    """Weighted share of rows that label each head [H]; makes heads of rare channels count alike."""
    known = used[part] * examples.weights[part, None]
    return torch.from_numpy(np.maximum(known.mean(0), 1e-9))


def masked_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    used: torch.Tensor,
    weights: torch.Tensor,
    shares: torch.Tensor,
) -> torch.Tensor:
    """Sum over heads of the mean cross-entropy over the labels used, weighted.

    logits, labels, used [B, H]: before any correction; weights [B] of the rows; shares [H] of the
    rows that label each head.
    """
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, labels.clamp(min=0).to(logits.dtype), reduction="none"
    )
    return (losses * (weights[:, None] * used / shares)).sum() / len(labels)


def _tuning_loss(
    model: MultiTaskModel,
    examples: Examples,
    contents: Contents,
    part: NDArray[np.int64],
    told: NDArray[np.float64],
) -> float:
    """Mean over trained heads of the weighted log loss, once calibrated: what the rest of the
    training can't improve by calibration alone. `told` [heads]: the information learned from."""
    logits, labels = predict(model, examples, contents, part), examples.labels[part]
    weights = examples.weights[part]
    scale, shift = fit_calibration(logits, labels, weights, told)
    z = logits * scale + shift
    losses = np.logaddexp(0, z) - np.maximum(labels, 0) * z
    known = (labels != MASKED) & model.trained.numpy()
    heads = known.any(axis=0)
    by_head = (losses * known * weights[:, None]).sum(0)[heads]
    return float((by_head / (known * weights[:, None]).sum(0)[heads]).mean())
