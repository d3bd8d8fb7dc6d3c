"""The rivals of bench.candidate_quality: known methods, each with its settings.

A rival is a function from what is known to a users × items table of scores; `direction` is what is
ranked: items for users, or users for items.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from bench.candidate_cuts import WEEK
from services.candidate.models.decomposition import Basis
from services.candidate.models.interactions import Interactions
from services.candidate.models.scorers import Ease, Factors, LinearFilter
from services.candidate.sources.arrays import Floats

Setting = tuple[float, ...]
Scores = Callable[[Interactions, Setting], Floats]


@dataclass(frozen=True, slots=True)
class Rival:
    """A method and the settings it is tuned over."""

    scores: Scores
    settings: Sequence[Setting]


def _over_users(values: Floats, known: Interactions) -> Floats:
    return np.repeat(values[:, None], len(known.item_ids), axis=1).astype(np.float32)


def _over_items(values: Floats, known: Interactions) -> Floats:
    return np.repeat(values[None, :], len(known.user_ids), axis=0).astype(np.float32)


def ages(known: Interactions) -> Floats:
    """Weeks since each interaction, before the last one known; 0 without times."""
    if known.times is None:
        return np.zeros(len(known), np.float32)
    found: Floats = ((known.times.max() - known.times) / WEEK).astype(np.float32)
    return found


def decayed(rows: Any, size: int, age: Floats, half_life: float) -> Floats:
    """Counts, each interaction halved with every half-life."""
    found: Floats = np.bincount(rows, 0.5 ** (age / half_life), size).astype(np.float32)
    return found


def active(known: Interactions, setting: Setting) -> Floats:
    """Most active users, decayed."""
    size = len(known.user_ids)
    return _over_users(decayed(known.users, size, ages(known), setting[0]), known)


def last_seen(known: Interactions, _: Setting) -> Floats:
    """Last seen first."""
    age = np.full(len(known.user_ids), 1e6, np.float32)
    np.minimum.at(age, known.users, ages(known))
    return _over_users(-age, known)


def popular(known: Interactions, setting: Setting) -> Floats:
    """Most popular items, decayed."""
    size = len(known.item_ids)
    return _over_items(decayed(known.items, size, ages(known), setting[0]), known)


def _factorised(model: Any, known: Interactions, transposed: bool) -> Floats:
    table = csr_matrix(known.matrix.T if transposed else known.matrix)
    with threadpool_limits(1, "blas"):
        model.fit(table, show_progress=False)
    rows, columns = np.asarray(model.user_factors), np.asarray(model.item_factors)
    found: Floats = columns @ rows.T if transposed else rows @ columns.T
    return found


def als(transposed: bool) -> Scores:
    """ALS of the library `implicit`."""

    def scores(known: Interactions, setting: Setting) -> Floats:
        model = AlternatingLeastSquares(
            factors=int(setting[0]),
            regularization=setting[1],
            alpha=setting[2],
            iterations=15,
            random_state=1,
            num_threads=1,
        )
        return _factorised(model, known, transposed)

    return scores


def bpr(transposed: bool) -> Scores:
    """BPR of the library `implicit`."""

    def scores(known: Interactions, setting: Setting) -> Floats:
        model = BayesianPersonalizedRanking(
            factors=int(setting[0]),
            learning_rate=setting[1],
            regularization=setting[2],
            iterations=60,
            random_state=1,
            num_threads=1,
        )
        return _factorised(model, known, transposed)

    return scores


def ease(known: Interactions, setting: Setting) -> Floats:
    """EASE on items."""
    return Ease.fit(known.matrix, setting[0]).scores(known.matrix)


def knn(of_users: bool) -> Scores:
    """The k nearest items (or users) by cosine with shrinkage."""

    def scores(known: Interactions, setting: Setting) -> Floats:
        table = (known.transposed if of_users else known).matrix
        gram = np.asarray((table.T @ table).todense(), np.float32)
        norm = np.sqrt(gram.diagonal())
        like = gram / (norm[:, None] * norm[None, :] + np.float32(max(setting[1], 1e-6)))
        np.fill_diagonal(like, 0)
        count = min(int(setting[0]), len(like) - 1)
        edge = -np.partition(-like, count, axis=0)[count]
        found: Floats = np.asarray(table @ np.where(like > edge, like, 0), np.float32)
        return found.T if of_users else found

    return scores


def gfcf(known: Interactions, setting: Setting) -> Floats:
    """GF-CF: the linear filter plus a share of the ideal low-pass."""
    matrix = known.matrix
    linear = LinearFilter.fit(matrix, (0.5, 1.0, 0.5)).scores(matrix)
    basis = Basis.fit(known, int(setting[0]), 1, smoothing=0.0)
    low = Factors.low_pass(basis, int(setting[0]), (0.5, 0.5)).scores(matrix)
    found: Floats = linear + np.float32(setting[1]) * low
    return found


FACTORS: Mapping[str, Sequence[Setting]] = {
    "users": [(power, half) for power in (0.0, 0.5, 1.0) for half in (0.1, 0.5, 2.0)],
    "items": [(power, half) for power in (0.25, 0.5, 1.0) for half in (1.0, 4.0, 1e6)],
}
"""Powers and half-lives in weeks, see `with_factors`."""


def with_factors(scores: Floats, known: Interactions, side: str, setting: Setting) -> Floats:
    """Positive scores times activity and recency: of users, count^p · 2^(−weeks unseen / h); of
    items, the popularity decayed with half-life h, to the power p."""
    power, half = setting
    positive = np.maximum(scores - scores.min(initial=0.0), 0) + np.float32(1e-4)
    age = ages(known)
    if side == "items":
        wanted = decayed(known.items, len(known.item_ids), age, half)
        found: Floats = positive * (wanted + np.float32(0.01)) ** power
        return found
    unseen = np.full(len(known.user_ids), 1e6, np.float32)
    np.minimum.at(unseen, known.users, age)
    count = np.bincount(known.users, minlength=len(known.user_ids)).astype(np.float32)
    weight = power * np.log(np.maximum(count, 1)) - np.log(2) * unseen / half
    logged: Floats = np.log(positive) + weight[:, None].astype(np.float32)
    return logged


_HALVES = [(half,) for half in (0.15, 1.0, 4.0, 1e6)]
_ALS = [(16, 10.0, 2.0), (48, 10.0, 2.0), (16, 0.1, 10.0), (48, 0.1, 10.0)]
_BPR = [(16, 0.08, 0.05), (48, 0.08, 0.05), (16, 0.02, 0.005), (48, 0.02, 0.005)]
_KNN = [(20, 0.0), (50, 10.0), (100, 10.0), (400, 10.0)]
RIVALS: Mapping[str, Rival] = {
    "most_active": Rival(active, _HALVES),
    "last_seen": Rival(last_seen, [()]),
    "most_popular": Rival(popular, _HALVES),
    "als": Rival(als(False), _ALS),
    "als_transposed": Rival(als(True), _ALS),
    "bpr": Rival(bpr(False), _BPR),
    "bpr_transposed": Rival(bpr(True), _BPR),
    "ease": Rival(ease, [(p,) for p in (1.0, 4.0, 16.0, 64.0)]),
    "item_knn": Rival(knn(False), _KNN),
    "user_knn": Rival(knn(True), _KNN),
    "gfcf": Rival(gfcf, [(k, a) for k in (16, 64) for a in (0.3, 1.0)]),
}
"""Up to four settings each; ALS and BPR with FACTORS (nine) on their best setting as well."""
FACTORED = ("als", "als_transposed", "bpr", "bpr_transposed")
ONE_SIDED = {"most_active": "users", "last_seen": "users", "most_popular": "items"}
"""Rivals that rank one side only."""
