"""Metrics against their definitions."""

import numpy as np
import pytest

from services.ranker.training.metrics import (
    auc,
    calibration,
    evaluate,
    log_loss,
    normalised_entropy,
)


def test_auc_is_the_share_of_ordered_pairs() -> None:
    random = np.random.default_rng(0)
    scores = random.integers(0, 6, 60) / 6
    labels = (random.random(60) < 0.4).astype(float)
    weights = random.integers(1, 4, 60).astype(float)
    above = scores[:, None] - scores[None, :]
    wins = (above > 0) + 0.5 * (above == 0)
    pairs = (weights * labels)[:, None] * (weights * (1 - labels))[None, :]
    assert auc(scores, labels, weights) == pytest.approx((wins * pairs).sum() / pairs.sum())


def test_without_both_classes_there_is_no_auc() -> None:
    one = np.ones(3)
    assert np.isnan(auc(one, one, one))
    assert np.isnan(calibration(one, 0 * one, one))


def test_the_base_rate_has_normalised_entropy_one() -> None:
    labels = np.array([0.0, 0, 0, 1])
    weights = np.array([1.0, 1, 1, 5])
    base = np.full(4, 5 / 8)
    assert normalised_entropy(base, labels, weights) == pytest.approx(1.0)
    assert calibration(base, labels, weights) == pytest.approx(1.0)
    assert log_loss(labels, labels, weights) == pytest.approx(0.0, abs=1e-6)


def test_intervals_hold_the_value() -> None:
    random = np.random.default_rng(1)
    users = random.integers(0, 50, 800)
    labels = (random.random(800) < 0.3).astype(float)
    found = evaluate(np.full(800, 0.3), labels, np.ones(800), users, seed=0)
    for name in ("log_loss", "calibration"):
        assert found[name].low < found[name].value < found[name].high
