"""Relevance of items, and of users to users, exact and in memory. Pure NumPy.

All are probabilities of an interaction within the model's horizon, but for the likeness of users,
which is (1 + cosine) / 2; −inf marks what must not be returned.
"""

import numpy as np
import numpy.typing as npt

from services.candidate.sources import Catalogue, Predictor
from services.candidate.sources.arrays import Floats, Mask, Rows

Sums = npt.NDArray[np.float64]

SEGMENT_BLOCK = 256
USER_BLOCK = 8_192
"""Users at a time whose likeness to others stays in the processor's cache."""


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
    totals, counts = segment_sums(
        catalogue, predictor, users, include_interacted=include_interacted
    )
    return segment_means(totals, counts, catalogue.item_live)


def segment_sums(
    catalogue: Catalogue, predictor: Predictor, users: Rows, *, include_interacted: bool
) -> tuple[Sums, Sums]:
    """Of every item the sum of the group's interest, and over how many: see
    `items_for_segment`."""
    warm = users[catalogue.user_likes[users] > 0]
    group = warm if len(warm) else users
    total = np.zeros(len(catalogue.item_ids))
    counted = np.zeros(len(catalogue.item_ids))
    for start in range(0, len(group), SEGMENT_BLOCK):
        rows = group[start : start + SEGMENT_BLOCK]
        scores = predictor.relevance("items", rows)
        open_pairs = np.ones(scores.shape, np.bool_)
        if not include_interacted:
            seen = catalogue.weights[rows]
            open_pairs[np.repeat(np.arange(len(rows)), np.diff(seen.indptr)), seen.indices] = False
        total += np.where(open_pairs, scores, 0.0).sum(axis=0)
        counted += open_pairs.sum(axis=0)
    return total, counted


def segment_means(totals: Sums, counts: Sums, live: Mask) -> Floats:
    """Mean interest in every item; −inf for those that must not be returned."""
    means: Floats = (totals / np.maximum(counts, 1)).astype(np.float32)
    means[(counts == 0) | ~live] = -np.inf
    return means


def users_like_user(catalogue: Catalogue, tastes: Floats, user: int) -> Floats:
    """Likeness to a user of every other who likes something; all others' activity when the user
    neither likes anything nor is like anyone by attributes."""
    most = int(catalogue.user_likes.max(initial=0))
    scores = users_like_taste(catalogue, tastes, tastes[user], most)
    scores[user] = -np.inf
    return scores


def users_like_taste(catalogue: Catalogue, tastes: Floats, taste: Floats, most: int) -> Floats:
    """The same of all users, for a taste; `most`: the likes of who likes most."""
    if not taste.any():
        activity: Floats = (catalogue.user_likes / max(most, 1)).astype(np.float32)
        return activity
    scores: Floats = np.clip((1.0 + cosines(tastes, taste)) / 2.0, 0.0, 1.0).astype(np.float32)
    scores[catalogue.user_likes == 0] = -np.inf
    return scores


def cosines(tastes: Floats, taste: Floats) -> Floats:
    """Of each of some tastes with one."""
    found: Floats = units(tastes) @ units(taste[None, :])[0]
    return found


def count_nearer(catalogue: Catalogue, tastes: Floats, asked: Floats, least: Floats) -> Rows:
    """How many users who like something have a greater cosine than `least` with each of the tastes
    `asked`, of length 1: everybody is looked at for each of them."""
    closed = np.where(catalogue.user_likes == 0, np.float32(-np.inf), np.float32(0.0))
    found = np.zeros(len(asked), np.int64)
    for start in range(0, len(tastes), USER_BLOCK):
        part = slice(start, start + USER_BLOCK)
        table = asked @ units(tastes[part]).T + closed[part]
        found += (table > least[:, None]).sum(axis=1)
    return found


def units(tastes: Floats) -> Floats:
    """Of length one; 0 stays."""
    lengths = np.maximum(np.linalg.norm(tastes, axis=1, keepdims=True), np.float32(1e-12))
    found: Floats = tastes / lengths
    return found
