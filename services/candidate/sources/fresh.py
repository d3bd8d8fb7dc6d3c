"""Items that are new."""

from datetime import datetime, timedelta

import numpy as np

from services.candidate.sources.arrays import Floats, Mask, Matrix, Rows, Times
from services.candidate.sources.catalogue import Catalogue, utc_microseconds
from services.candidate.sources.source import Predictor, Ranking
from services.candidate.sources.tables import ItemTable


class Fresh:
    """Items created within the window before now.

    The score is the item's recency, which falls from 1 to 0 over the window, times its predicted
    relevance, so that of equally new items the one closer to the user's taste comes first.
    """

    name = "fresh"
    reason = "NEW_ITEM"

    def __init__(
        self, catalogue: Catalogue, predictor: Predictor, now: datetime, window: timedelta
    ) -> None:
        recency = recencies(catalogue.item_created, now, window)
        self._items = np.flatnonzero(catalogue.item_live & (recency > 0))
        self._recency = recency[self._items]
        self._table = ItemTable(self._items, len(catalogue.item_ids))
        self._catalogue = catalogue
        self._predictor = predictor

    def worth_asking(self, users: Rows) -> Mask:
        """Everyone, as soon as there is a new item."""
        return np.full(len(users), len(self._items) > 0)

    def candidates(self, users: Rows, count: int, blocked: Matrix | None = None) -> Ranking:
        """New live items by recency and taste."""
        known = self._catalogue.weights[users]
        return self._table.ranking(users, count, self._scores, known, blocked)

    def _scores(self, users: Rows) -> Floats:
        return self._recency * self._predictor.relevance("items", users, self._items)


def recencies(times: Times, now: datetime, window: timedelta) -> Floats:
    """How recent times are: 1 at `now` (aware), falling to 0 at the window's far end; 0 beyond it
    and after `now`."""
    age = (utc_microseconds(now) - times) / np.timedelta64(window)
    recency: Floats = np.where((age >= 0) & (age < 1), 1.0 - age, 0.0).astype(np.float32)
    return recency
