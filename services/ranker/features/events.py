"""Features of the events to rank."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.ranker.features.items import ItemTable
from services.ranker.features.schema import Features
from services.ranker.features.vocabulary import item_key, source_bucket, type_bucket

MOST_ITEMS = 32
SCORE_SCALE = 1e4
PRIOR_OPENS, PRIOR_SENDS = 1.0, 20.0
"""An item without history has an open rate of 1 in 20."""


@dataclass(frozen=True, slots=True)
class EventFacts:
    """An event to rank. Its content is that of its first item, the best one."""

    event_type: str
    item_ids: Sequence[str] = ()
    source: str = ""
    source_score: float = 0.0
    """In [0, 1]."""
    create_time: int | None = None
    """Seconds; None: now."""


def event_features(events: Sequence[EventFacts], now: int, items: ItemTable) -> Features:
    """EVENT_FEATURES of events [N] as they are at `now`.

    `event_numbers` [N, 5]: the source's score s, mostly a small probability, as log(1 + 10⁴ s) /
    log(1 + 10⁴); log(1 + age in hours); items / 32; log(1 + sends of the item to anyone); smoothed
    open rate (opens + 1) / (sends + 20) of the item.
    """
    keys = np.array([item_key(e.item_ids[0]) if e.item_ids else 0 for e in events], np.int64)
    history = items.history(keys).astype(np.float64)
    sends, opens = history[:, 0], history[:, 1]
    created = [now if event.create_time is None else event.create_time for event in events]
    ages = np.maximum(now - np.array(created, np.float64), 0.0)
    numbers = [
        np.log1p(SCORE_SCALE * np.array([event.source_score for event in events], np.float64))
        / np.log1p(SCORE_SCALE),
        np.log1p(ages / 3600),
        np.array([len(event.item_ids) for event in events]) / MOST_ITEMS,
        np.log1p(sends),
        (opens + PRIOR_OPENS) / (sends + PRIOR_SENDS),
    ]
    return {
        "event_type": np.array([type_bucket(e.event_type) for e in events], np.int32),
        "event_source": np.array([source_bucket(e.source) for e in events], np.int32),
        "event_item": items.refs(keys),
        "event_numbers": np.stack(numbers, axis=1).astype(np.float32),
    }
