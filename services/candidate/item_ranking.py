"""The items of an event in the order of its user's predicted interest, and the event's score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.candidate.sources import Catalogue, Predictor
from services.candidate.sources.arrays import Floats, Mask, Rows

SHOWN = 3
"""Items of an event that a reader is taken to look at."""
UNKNOWN = -1
ALMOST_CERTAIN = 1 - 1e-6
"""Largest relevance counted: its complement's logarithm is finite."""

Items = tuple[str, tuple[str, ...]]
"""A user, and the items of an event for them."""


@dataclass(frozen=True, slots=True)
class RankedItems:
    """The items of one event, best first."""

    item_ids: tuple[str, ...]
    score: float
    """Event-level score in [0, 1]; 0 when none of the items is known."""


def rank_items(
    catalogue: Catalogue, predictor: Predictor, events: Sequence[Items]
) -> list[RankedItems]:
    """Order the items of events by the relevance that collaborative filtering predicts.

    Users who like nothing yet, and items that nobody likes, are unknown: such an item keeps its
    place among the others of its event, and such a user's events stay as they are.
    """
    lengths = np.array([len(items) for _, items in events], np.int64)
    users = [catalogue.user_rows.get(user, UNKNOWN) for user, _ in events]
    flat = [item for _, items in events for item in items]
    items = [catalogue.item_rows.get(item, UNKNOWN) for item in flat]
    owners = np.repeat(np.array(users, np.int64), lengths)
    scores = predicted(catalogue, predictor, owners, np.array(items, np.int64))
    order = best_first(scores, lengths)
    levels = event_scores(scores[order], lengths)
    ends = np.cumsum(lengths)
    return [
        RankedItems(tuple(flat[place] for place in order[end - length : end].tolist()), level)
        for end, length, level in zip(ends.tolist(), lengths.tolist(), levels.tolist(), strict=True)
    ]


def predicted(catalogue: Catalogue, predictor: Predictor, users: Rows, items: Rows) -> Floats:
    """The predicted relevance of pairs of a user and an item, by their rows; NaN where either is
    unknown, which −1 stands for as well."""
    warm = np.flatnonzero(_known(users, catalogue.user_likes) & _known(items, catalogue.item_likes))
    scores = np.full(len(items), np.nan, np.float32)
    if len(warm):
        scores[warm] = predictor.pairs(users[warm], items[warm])
    return scores


def best_first(scores: Floats, lengths: Rows) -> Rows:
    """The positions of items of events, one event after the other, each event's best first.

    `lengths` are the numbers of items of the events. Items without a score (NaN) keep their
    places; of equal ones the earlier comes first.
    """
    events = np.repeat(np.arange(len(lengths)), lengths)
    known = np.flatnonzero(~np.isnan(scores))
    order = np.arange(len(scores))
    order[known] = known[np.lexsort((known, -scores[known], events[known]))]
    return order


def event_scores(scores: Floats, lengths: Rows) -> Floats:
    """What events' items, in their order, are worth: 1 − Π (1 − p) over the first `SHOWN`, the
    probability of interest in at least one, were the relevances p independent probabilities. Items
    without a score (NaN) add nothing."""
    starts = np.cumsum(lengths) - lengths
    places = np.arange(len(scores)) - np.repeat(starts, lengths)
    counted = (places < SHOWN) & ~np.isnan(scores)
    events = np.repeat(np.arange(len(lengths)), lengths)
    interest = np.minimum(scores[counted], ALMOST_CERTAIN)
    missed = np.bincount(events[counted], weights=np.log1p(-interest), minlength=len(lengths))
    worth: Floats = (-np.expm1(missed)).astype(np.float32)
    return worth


def _known(rows: Rows, likes: Rows) -> Mask:
    known: Mask = (rows != UNKNOWN) & (likes[rows] > 0 if len(likes) else False)
    return known
