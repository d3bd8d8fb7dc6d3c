"""Metrics against their definitions."""

from collections.abc import Callable

import numpy as np
import pytest

from services.ranker.training import metrics
from services.ranker.training.metrics import Counted, Rows


def made(
    scores: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray | None = None,
    users: np.ndarray | None = None,
) -> Rows:
    """Rows of one user with weight 1 unless told."""
    users = np.zeros(len(labels), np.int64) if users is None else users
    weights = np.ones(len(labels)) if weights is None else weights
    return Rows(scores.astype(float), labels.astype(float), weights, users, int(users.max()) + 1)


def value(metric: Callable[[Rows], Counted], rows: Rows) -> float:
    return metric(rows)(np.ones(rows.user_count))


def random_rows(seed: int = 0, count: int = 60) -> Rows:
    random = np.random.default_rng(seed)
    return made(
        random.integers(1, 6, count) / 6,
        random.random(count) < 0.4,
        random.integers(1, 4, count).astype(float),
        random.integers(0, 8, count),
    )


def test_auc_is_the_share_of_ordered_pairs() -> None:
    rows = random_rows()
    above = rows.scores[:, None] - rows.scores[None, :]
    wins = (above > 0) + 0.5 * (above == 0)
    weights = rows.weights
    pairs = (weights * rows.labels)[:, None] * (weights * (1 - rows.labels))[None, :]
    assert value(metrics.auc, rows) == pytest.approx((wins * pairs).sum() / pairs.sum())


def test_without_both_classes_there_is_no_auc_ratio_or_slope() -> None:
    for labels in (np.ones(3), np.zeros(3)):
        rows = made(np.array([0.2, 0.5, 0.7]), labels)
        assert np.isnan(value(metrics.auc, rows))
        assert np.isnan(value(metrics.slope, rows))
        assert np.isnan(value(metrics.normalised_entropy, rows))
        assert np.isnan(value(metrics.ndcg, rows))
    assert np.isnan(value(metrics.calibration, made(np.ones(3), np.zeros(3))))


def test_the_base_rate_has_normalised_entropy_one() -> None:
    labels, weights = np.array([0, 0, 0, 1]), np.array([1.0, 1, 1, 5])
    base = made(np.full(4, 5 / 8), labels, weights)
    assert value(metrics.normalised_entropy, base) == pytest.approx(1.0)
    assert value(metrics.calibration, base) == pytest.approx(1.0)
    right = made(labels, labels, weights)
    assert value(metrics.log_loss, right) == pytest.approx(0.0, abs=1e-6)


def test_ndcg_is_that_of_each_users_list() -> None:
    random = np.random.default_rng(3)
    users, scores = np.repeat(np.arange(6), 9), random.permutation(54) / 54
    labels = (random.random(54) < 0.3) & (users > 0)  # user 0 has no positive
    found = []
    for user in range(1, 6):
        relevant = labels[users == user][np.argsort(-scores[users == user])].astype(float)
        gains = 1 / np.log2(np.arange(9) + 2)
        found.append((relevant @ gains) / (np.sort(relevant)[::-1] @ gains))
    rows = made(scores, labels, users=users)
    assert value(metrics.ndcg, rows) == pytest.approx(np.mean(found))


def test_equal_scores_share_their_places() -> None:
    rows = made(np.full(3, 0.5), np.array([1, 0, 0]))
    assert value(metrics.ndcg, rows) == pytest.approx(1 / np.log2(3))  # place 2 of 1 to 3
    heavy = made(np.array([0.5, 0.9]), np.array([1, 0]), np.array([1.0, 10.0]))
    assert value(metrics.ndcg, heavy) == pytest.approx(1 / np.log2(12))  # ten stand above it


@pytest.mark.parametrize(
    "metric",
    [metrics.auc, metrics.log_loss, metrics.normalised_entropy, metrics.calibration],
)
def test_a_user_drawn_twice_counts_as_two(metric: Callable[[Rows], Counted]) -> None:
    rows = random_rows(4)
    counts = np.array([0.0, 1, 2, 1, 3, 0, 1, 1])
    again = np.repeat(np.arange(len(rows.labels)), counts[rows.users].astype(int))
    doubled = made(
        rows.scores[again], rows.labels[again], rows.weights[again], np.arange(len(again))
    )
    assert metric(rows)(counts) == pytest.approx(value(metric, doubled))


def test_calibration_error_of_right_scores_is_nought_on_average() -> None:
    """Without the part of chance taken away it would be about .0025."""
    found = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        scores = random.uniform(0.05, 0.6, 1200)
        labels, users = random.random(1200) < scores, np.arange(1200) // 4
        found.append(value(metrics.squared_calibration_error, made(scores, labels, users=users)))
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error < 4e-4


def test_calibration_error_finds_what_is_off() -> None:
    random = np.random.default_rng(0)
    truth = random.uniform(0.1, 0.5, 40_000)
    labels, users = random.random(40_000) < truth, np.arange(40_000) // 5
    off = value(metrics.squared_calibration_error, made(truth + 0.05, labels, users=users))
    assert np.sqrt(off) == pytest.approx(0.05, abs=0.01)
