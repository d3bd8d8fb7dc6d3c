"""Negative downsampling: independent draws per head, and scores that are right all the same."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from services.ranker.features import HEADS, Head
from services.ranker.labels import KEPT_DECISIONS
from services.ranker.training import fit
from services.ranker.training.downsampling import corrections, learned
from services.ranker.training.fit import TrainingConfig, masked_loss, predict, train
from services.ranker.training.log import Examples
from services.ranker.training.model import ModelConfig
from tests.unit.ranker.made_log import made_log

SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
RATES = np.array([0.3, 0.2, 0.1, 0.05, 0.02, 0.02, 0.1, 0.3, 0.5])
COUNT = 40_000


def made(seed: int, *, logged: bool) -> Examples:
    """Rows with a label for every head, at its rate; all logged, or as the service logs them."""
    random = np.random.default_rng(seed)
    labels = (random.random((COUNT, len(HEADS))) < RATES).astype(np.int8)
    probability = np.where(labels[:, :3].any(axis=1), 1.0, KEPT_DECISIONS) if logged else 1.0
    examples = Examples(
        decision_id=[f"{seed}-{row}" for row in range(COUNT)],
        user_id=[str(row) for row in range(COUNT)],
        time=np.zeros(COUNT, np.int64),
        channel=np.zeros(COUNT, np.int8),
        log_probability=np.broadcast_to(probability, COUNT).astype(np.float32),
        labels=labels,
        users={},
        events={},
    )
    return examples.take(np.flatnonzero(random.random(COUNT) < probability))


def intercepts(examples: Examples, used: np.ndarray) -> np.ndarray:
    """The constant logit of each head that training's loss likes best [heads]."""
    logits = torch.zeros(len(HEADS), dtype=torch.float64, requires_grad=True)
    weights = torch.from_numpy(1.0 / examples.log_probability.astype(np.float64))
    shares = torch.from_numpy(used.mean(0))
    optimiser = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        spread = logits.expand(len(examples), -1)
        labels, mask = torch.from_numpy(examples.labels), torch.from_numpy(used)
        found = masked_loss(spread, labels, mask, weights, shares)
        torch.autograd.backward(found)
        return found

    optimiser.step(loss)
    return logits.detach().numpy()


def standard_errors(examples: Examples, used: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Of weighted intercepts, by the sandwich formula [heads]."""
    q = 1 / (1 + np.exp(-logits))
    weights = 1.0 / examples.log_probability.astype(np.float64)[:, None] * used
    score = (weights**2 * (examples.labels - q) ** 2).sum(0)
    return np.sqrt(score) / (weights * q * (1 - q)).sum(0)


@pytest.mark.parametrize("turn", range(len(SHARES)))
@pytest.mark.parametrize("logged", [False, True])
def test_the_base_rate_of_each_head_is_recovered(turn: int, logged: bool) -> None:
    shares = {head: SHARES[(turn + place) % len(SHARES)] for place, head in enumerate(HEADS)}
    examples = made(turn, logged=logged)
    used = learned(examples, np.arange(len(examples)), shares)
    raw = intercepts(examples, used)
    off = raw + corrections(shares) - np.log(RATES / (1 - RATES))
    errors = standard_errors(examples, used, raw)
    assert (np.abs(off) < 3.5 * errors).all()
    assert errors.max() < 0.5
    sparse = np.array([shares[head] for head in HEADS]) < 0.5
    assert (np.abs(off - corrections(shares))[sparse] > 3.5 * errors[sparse]).all()


def test_every_positive_and_the_share_of_negatives_is_used_of_the_part_only() -> None:
    examples, part = made(7, logged=False), np.arange(0, COUNT, 2)
    used = learned(examples, part, {Head.PUSH_OPEN: 0.2})
    opened = examples.labels[:, 0] == 1
    assert used[part][opened[part]].all()
    assert used[part][~opened[part], 0].mean() == pytest.approx(0.2, abs=0.015)
    assert used[part, 1:].all()
    assert not used[1::2].any()
    np.testing.assert_array_equal(used, learned(examples, part, {Head.PUSH_OPEN: 0.2}))


def test_heads_draw_apart_from_each_other() -> None:
    examples = replace(made(8, logged=False), labels=np.zeros((COUNT, len(HEADS)), np.int8))
    used = learned(examples, np.arange(COUNT), dict.fromkeys(HEADS, 0.3))
    together = np.corrcoef(used.T) - np.eye(len(HEADS))
    assert np.abs(together).max() < 4 / np.sqrt(COUNT)


def uncalibrated(logits: np.ndarray, *_rest: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """A calibration that changes nothing."""
    count = logits.shape[1]
    return np.ones(count, np.float32), np.zeros(count, np.float32)


def test_a_trained_model_predicts_the_base_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "fit_calibration", uncalibrated)
    examples, items = made_log(users=150, days=20)
    size = ModelConfig(sequence_width=16, sequence_layers=1, width=32, mixer_layers=1)
    config = TrainingConfig(
        seed=5, epochs=3, batch_rows=64, learning_rate=2e-3, model=size,
        negatives_kept={Head.PUSH_OPEN: 0.2},
    )  # fmt: skip
    trained = train(examples, items, config)
    part = trained.split.train
    scores = 1 / (1 + np.exp(-predict(trained.model, examples, items, part)[:, 0]))
    hits = examples.labels[part, 0]
    assert scores.mean() == pytest.approx(hits.mean(), abs=0.03)  # .5 without the correction
    assert trained.model.shift[0].item() == pytest.approx(np.log(0.2))
