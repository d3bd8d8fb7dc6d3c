"""LightGBM on the flattened features: the third rival of bench.ranker_quality, a model per head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
import torch
from numpy.typing import NDArray

from bench.ranker_flat import CATEGORIES, flat
from services.ranker.features.items import Contents
from services.ranker.features.vocabulary import HEADS
from services.ranker.training.calibrate import fit_calibration, information
from services.ranker.training.fit import trainable
from services.ranker.training.log import MASKED, Examples
from services.ranker.training.logistic import log_losses, sigmoid
from services.ranker.training.split import Split

ROWS = 4096
MOST_TREES = 600
PATIENCE = 50
FIXED = {
    "objective": "binary",
    "learning_rate": 0.05,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "seed": 0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}

Table = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Boosted:
    """Scores of a setting."""

    losses: NDArray[np.float64]
    """Tuning loss of each head; NaN: not trained."""
    scores: Sequence[NDArray[np.float64]]
    """Of each set of rows that was asked for [n, heads]."""


def table(
    examples: Examples, contents: Contents, index: NDArray[np.int64], *, helped: bool
) -> Table:
    """Flattened features of these rows; see `ranker_flat`."""
    parts = []
    for start in range(0, len(index), ROWS):
        inputs = examples.inputs(index[start : start + ROWS], contents)
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        parts.append(flat(tensors, helped=helped).numpy())
    return np.concatenate(parts)


def boosted(
    examples: Examples,
    contents: Contents,
    parts: Split,
    asked: Sequence[Table],
    setting: Mapping[str, float],
    *,
    helped: bool,
) -> Boosted:
    """Train each head that has enough labels; others answer their base rate."""
    used = np.zeros(examples.labels.shape, bool)
    used[parts.train] = examples.labels[parts.train] != MASKED
    heads = trainable(examples, used)
    tables = [
        table(examples, contents, part, helped=helped) for part in (parts.train, parts.tuning)
    ]
    losses = np.full(len(HEADS), np.nan)
    found = [np.zeros((len(each), len(HEADS))) for each in asked]
    for column, head in enumerate(HEADS):
        sets = []
        for each, part in zip(tables, (parts.train, parts.tuning), strict=True):
            known = examples.labels[part, column] != MASKED
            rows = part[known]
            sets.append((each[known], examples.labels[rows, column], examples.weights[rows]))
        if head not in heads:
            _, labels, weights = sets[0]
            rate = float((weights * labels).sum() / max(weights.sum(), 1e-9))
            for scores in found:
                scores[:, column] = np.float32(rate)  # as nets keep it
            continue
        booster = _trained(sets, setting)
        logits = [
            np.asarray(booster.predict(each, raw_score=True)) for each in (sets[1][0], *asked)
        ]
        _, labels, weights = sets[1]
        learned = information(sets[0][1][:, None], sets[0][2])
        scale, shift = fit_calibration(logits[0][:, None], labels[:, None], weights, learned)
        tuning, *scored = (sigmoid(each * scale[0] + shift[0]) for each in logits)
        losses[column] = np.average(log_losses(labels, tuning), weights=weights)
        for scores, own in zip(found, scored, strict=True):
            scores[:, column] = own
    return Boosted(losses, found)


def _trained(
    sets: Sequence[tuple[Table, NDArray[np.int8], NDArray[np.float64]]],
    setting: Mapping[str, float],
) -> lgb.Booster:
    numbered = list(range(len(CATEGORIES)))
    (features, labels, weights), tuning = sets
    learned = lgb.Dataset(features, labels, weight=weights, categorical_feature=numbered)
    judged = learned.create_valid(tuning[0], tuning[1], weight=tuning[2])
    stop = lgb.early_stopping(PATIENCE, verbose=False)
    return lgb.train({**FIXED, **setting}, learned, MOST_TREES, [judged], callbacks=[stop])
