"""Features of the events to rank."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.items import UNITS, ItemTable, log_score
from services.ranker.features.schema import EVENT_ITEMS, Features
from services.ranker.features.users import Moments
from services.ranker.features.vocabulary import item_key, source_bucket, type_bucket

MOST_ITEMS = 32
PRIOR_OPENS, PRIOR_SENDS = 1.0, 20.0
"""An item without history has an open rate of 1 in 20."""
PRIOR_SCORE, PRIOR_SCORED = 0.5, 1.0
"""And a mean log score of the sources of one half."""


class EventFacts(NamedTuple):
    """An event to rank. Its content is that of its first items, the best ones; its history that of
    the very first.

    A tuple, as a call has hundreds: a frozen dataclass takes several times as long to make.
    """

    event_type: str
    item_ids: Sequence[str] = ()
    source: str = ""
    source_score: float = 0.0
    """In [0, 1]."""
    create_time: int | None = None
    """Seconds; None: now."""


def event_features(events: Sequence[EventFacts], now: Moments, items: ItemTable) -> Features:
    """EVENT_FEATURES of events [N] as they are at `now`, a time of all of them or of each.

    `event_numbers` [N, 7]: the source's log score; log(1 + age in hours); items / 32; of the first
    item, over all users: log(1 + sends); smoothed open rate (opens + 1) / (sends + 20); log(1 +
    sends whose event had a score); the smoothed mean of these log scores, (sum + ½) / (count + 1).
    """
    types, abouts, sources, scores, times = zip(*events, strict=True) if events else [()] * 5
    keys = _item_keys(abouts)
    history = items.history(keys[:, 0]).astype(np.float64)
    sends, opens, scored, scores_sum = history.T
    created = np.array([np.nan if time is None else time for time in times])
    ages = np.fmax(now - created, 0.0)
    numbers = [
        log_score(np.array(scores, np.float64)),
        np.log1p(ages / 3600),
        np.array(list(map(len, abouts))) / MOST_ITEMS,
        np.log1p(sends),
        (opens + PRIOR_OPENS) / (sends + PRIOR_SENDS),
        np.log1p(scored),
        (scores_sum / UNITS + PRIOR_SCORE * PRIOR_SCORED) / (scored + PRIOR_SCORED),
    ]
    return {
        "event_type": np.array(list(map(type_bucket, types)), np.int32),
        "event_source": np.array(list(map(source_bucket, sources)), np.int32),
        "event_items": items.refs(keys),
        "event_numbers": np.stack(numbers, axis=1).astype(np.float32),
    }


def _item_keys(abouts: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Keys of the first items of events [N, EVENT_ITEMS], 0 where there are fewer."""
    keys = np.zeros((len(abouts), EVENT_ITEMS), np.int64)
    for place in range(EVENT_ITEMS):
        rows = [row for row, ids in enumerate(abouts) if len(ids) > place]
        if not rows:
            break
        keys[rows, place] = [item_key(abouts[row][place]) for row in rows]
    return keys
