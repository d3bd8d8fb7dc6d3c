"""Relevance of items, and of users to users, exact and in memory. Pure NumPy.

All are probabilities of an interaction within the model's horizon, but for the likeness of users,
which is (1 + cosine) / 2; −inf marks what must not be returned.
"""

import numpy as np

from services.candidate.sources import Catalogue, Predictor
from services.candidate.sources.arrays import Floats, Rows, best

SEGMENT_BLOCK = 256


def items_for_user(
    catalogue: Catalogue, predictor: Predictor, user: int, *, include_interacted: bool
) -> Floats:
    """Interest of a user in every live item."""
    scores: Floats = predictor.relevance("items", np.array([user]))[0]
    if not include_interacted:
        scores[catalogue.weights[[user]].indices] = -np.inf
    scores[~catalogue.item_live] = -np.inf
    return scores


def items_for_segment(
    catalogue: Catalogue, predictor: Predictor, users: Rows, *, include_interacted: bool
) -> Floats:
    """Mean interest of a group in every live item, over those of the group who have not interacted
    with it (all, with `include_interacted`). Users who like nothing count only when all do."""
    warm = users[catalogue.user_likes[users] > 0]
    group = warm if len(warm) else users
    total = np.zeros(len(catalogue.item_ids))
    counted = np.zeros(len(catalogue.item_ids), np.int64)
    for start in range(0, len(group), SEGMENT_BLOCK):
        rows = group[start : start + SEGMENT_BLOCK]
        scores = predictor.relevance("items", rows)
        open_pairs = np.ones(scores.shape, np.bool_)
        if not include_interacted:
            seen = catalogue.weights[rows]
            open_pairs[np.repeat(np.arange(len(rows)), np.diff(seen.indptr)), seen.indices] = False
        total += np.where(open_pairs, scores, 0.0).sum(axis=0)
        counted += open_pairs.sum(axis=0)
    means: Floats = (total / np.maximum(counted, 1)).astype(np.float32)
    means[(counted == 0) | ~catalogue.item_live] = -np.inf
    return means


def users_like_user(catalogue: Catalogue, tastes: Floats, user: int) -> Floats:
    """Likeness to a user of every other who likes something; all others' activity when the user
    neither likes anything nor is like anyone by attributes."""
    if tastes[user].any():
        scores: Floats = _likeness(tastes, np.array([user]))[0]
        scores[catalogue.user_likes == 0] = -np.inf
    else:
        scores = catalogue.activity.copy()
    scores[user] = -np.inf
    return scores


def forward_ranks(scores: Floats) -> Floats:
    """1 − rank / number of others by users_like_user, in [0, 1]; −inf stays."""
    order = best(scores, len(scores))
    found = np.full(len(scores), -np.inf, np.float32)
    found[order] = 1.0 - np.arange(len(order)) / max(len(order) - 1, 1)
    return found


def backward_ranks(catalogue: Catalogue, tastes: Floats, user: int, rows: Rows) -> Floats:
    """The same of a user among those who are like each of `rows`: everybody is looked at for each
    of them."""
    table = _likeness(tastes, rows)
    open_users = catalogue.user_likes > 0
    open_users[user] = True
    table[:, ~open_users] = -np.inf
    table[np.arange(len(rows)), rows] = -np.inf
    ranks = (table > table[:, [user]]).sum(axis=1)
    found: Floats = 1.0 - (ranks / max(np.count_nonzero(open_users) - 2, 1)).astype(np.float32)
    return found


def _likeness(tastes: Floats, rows: Rows) -> Floats:
    lengths = np.maximum(np.linalg.norm(tastes, axis=1), np.float32(1e-12))
    cosine = tastes[rows] @ tastes.T / lengths[rows][:, None] / lengths
    likeness: Floats = np.clip((1.0 + cosine) / 2.0, 0.0, 1.0).astype(np.float32)
    return likeness
