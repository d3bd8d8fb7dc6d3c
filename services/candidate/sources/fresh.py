"""Items that are new."""

from datetime import datetime, timedelta

import numpy as np

from services.candidate.sources.arrays import Mask, Matrix, Rows, top_k
from services.candidate.sources.catalogue import Catalogue, utc_microseconds
from services.candidate.sources.masks import hide
from services.candidate.sources.source import Predictor, Ranking


class Fresh:
    """Items created within the window before now.

    The score is the item's recency, which falls from 1 to 0 over the window, times its predicted
    relevance, so that of equally new items the one closer to the user's taste comes first.
    """

    name = "fresh"

    def __init__(
        self, catalogue: Catalogue, predictor: Predictor, now: datetime, window: timedelta
    ) -> None:
        age = (utc_microseconds(now) - catalogue.item_created) / np.timedelta64(window)
        self._items = np.flatnonzero(catalogue.item_live & (age >= 0) & (age < 1))
        self._recency = (1.0 - age[self._items]).astype(np.float32)
        self._catalogue = catalogue
        self._predictor = predictor

    def worth_asking(self, users: Rows) -> Mask:
        """Everyone, as soon as there is a new item."""
        return np.full(len(users), len(self._items) > 0)

    def candidates(self, users: Rows, count: int, blocked: Matrix | None = None) -> Ranking:
        """New live items by recency and taste."""
        scores = np.full((len(users), len(self._catalogue.item_ids)), -np.inf, np.float32)
        relevance = self._predictor.relevance("items", users)[:, self._items]
        scores[:, self._items] = self._recency * relevance
        hide(scores, self._catalogue.weights[users], blocked)
        return Ranking(*top_k(scores, count))
