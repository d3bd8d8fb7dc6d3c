"""Scores of users and items for each question, exact and in memory. Pure NumPy.

All scores lie in [0, 1]; −inf marks what must not be returned. They are predicted relevance (see
`sources.relevance`) where the question's subject likes something or is liked, else popularity or
activity: the share of the most liked item's, or of the user's who likes most.
"""

from collections.abc import Iterator

import numpy as np

from services.candidate.sources import Catalogue, Factors, relevance
from services.candidate.sources.arrays import Floats, Rows, best

RECIPROCAL_BLOCK = 256
SEGMENT_BLOCK = 1024


def users_for_item(
    catalogue: Catalogue, factors: Factors, item: int, *, include_interacted: bool
) -> Floats:
    """Interest of every user in an item."""
    if factors.warm_items[item]:
        scores = relevance(factors.users @ factors.items[item])
    else:
        scores = catalogue.activity.copy()
    if not include_interacted:
        scores[catalogue.by_item[[item]].indices] = -np.inf
    return scores


def items_for_user(
    catalogue: Catalogue, factors: Factors, user: int, *, include_interacted: bool
) -> Floats:
    """Interest of a user in every live item."""
    if factors.warm_users[user]:
        scores = relevance(factors.items @ factors.users[user])
    else:
        scores = catalogue.popularity.copy()
    if not include_interacted:
        scores[catalogue.weights[[user]].indices] = -np.inf
    scores[~catalogue.item_live] = -np.inf
    return scores


def items_for_segment(
    catalogue: Catalogue, factors: Factors, users: Rows, *, include_interacted: bool
) -> Floats:
    """Mean interest of a group in every live item, over those of the group who have not interacted
    with it (all, with `include_interacted`). Users who like nothing count only when all do."""
    warm = users[factors.warm_users[users]]
    group = warm if len(warm) else users
    total = np.zeros(len(catalogue.item_ids))
    counted = np.zeros(len(catalogue.item_ids), np.int64)
    for start in range(0, len(group), SEGMENT_BLOCK):
        rows = group[start : start + SEGMENT_BLOCK]
        if len(warm):
            scores = relevance(factors.users[rows] @ factors.items.T)
        else:
            scores = np.tile(catalogue.popularity, (len(rows), 1))
        open_pairs = np.ones(scores.shape, np.bool_)
        if not include_interacted:
            seen = catalogue.weights[rows]
            open_pairs[np.repeat(np.arange(len(rows)), np.diff(seen.indptr)), seen.indices] = False
        total += np.where(open_pairs, scores, 0.0).sum(axis=0)
        counted += open_pairs.sum(axis=0)
    means: Floats = (total / np.maximum(counted, 1)).astype(np.float32)
    means[(counted == 0) | ~catalogue.item_live] = -np.inf
    return means


def users_like_user(catalogue: Catalogue, factors: Factors, user: int) -> Floats:
    """Likeness of every other user: (1 + cosine of the vectors) / 2; for a user who likes nothing,
    the others' activity."""
    if factors.warm_users[user]:
        scores: Floats = _likeness(factors, np.array([user]))[0]
        scores[~factors.warm_users] = -np.inf
    else:
        scores = catalogue.activity.copy()
    scores[user] = -np.inf
    return scores


def reciprocal(factors: Factors, user: int, scores: Floats, count: int) -> Floats:
    """The best `count` of `scores` (users_like_user of a user who likes something) by the smaller
    of the two directions' ranks, as 1 − rank / number of others; −inf for all others.

    The others come in the order of their rank for the user, which bounds their score from above, so
    it ends, exact, as soon as no further one can be among the best.
    """
    order = best(scores, len(scores))
    others = max(len(order) - 1, 1)
    found = np.full(len(scores), -np.inf, np.float32)
    for start, rows in _blocks(order):
        forward = 1.0 - np.arange(start, start + len(rows)) / others
        found[rows] = np.minimum(forward, 1.0 - _ranks_of(factors, user, rows) / others)
        taken = found[order[: start + len(rows)]]
        bound = 1.0 - (start + len(rows)) / others
        if len(taken) >= count and np.partition(taken, len(taken) - count)[-count] >= bound:
            break
    return found


def _blocks(order: Rows) -> Iterator[tuple[int, Rows]]:
    for start in range(0, len(order), RECIPROCAL_BLOCK):
        yield start, order[start : start + RECIPROCAL_BLOCK]


def _ranks_of(factors: Factors, user: int, rows: Rows) -> Rows:
    """Rank, from 0, of the user among the warm others of each of the users `rows`."""
    table = _likeness(factors, rows)
    table[:, ~factors.warm_users] = -np.inf
    table[np.arange(len(rows)), rows] = -np.inf
    ranks: Rows = (table > table[:, [user]]).sum(axis=1)
    return ranks


def _likeness(factors: Factors, rows: Rows) -> Floats:
    lengths = np.maximum(np.linalg.norm(factors.users, axis=1), np.float32(1e-12))
    cosine = factors.users[rows] @ factors.users.T / lengths[rows][:, None] / lengths
    likeness: Floats = np.clip((1.0 + cosine) / 2.0, 0.0, 1.0).astype(np.float32)
    return likeness
