"""Items that are new."""

from datetime import datetime, timedelta

import numpy as np

from services.candidate.sources.arrays import Floats, Mask, Matrix, Rows, top_k
from services.candidate.sources.catalogue import Catalogue, utc_microseconds
from services.candidate.sources.factors import Factors, relevance
from services.candidate.sources.masks import hide
from services.candidate.sources.source import Ranking


class Fresh:
    """Items created within the window before now.

    The score is the item's recency, which falls from 1 to 0 over the window, times the user's
    predicted relevance where both user and item have been liked or like something; so that of
    equally new items the one closer to the user's taste comes first.
    """

    name = "fresh"

    def __init__(
        self, catalogue: Catalogue, factors: Factors, now: datetime, window: timedelta
    ) -> None:
        age = (utc_microseconds(now) - catalogue.item_created) / np.timedelta64(window)
        self._items = np.flatnonzero(catalogue.item_live & (age >= 0) & (age < 1))
        self._recency = (1.0 - age[self._items]).astype(np.float32)
        self._catalogue = catalogue
        self._factors = factors

    def worth_asking(self, users: Rows) -> Mask:
        """Everyone, as soon as there is a new item."""
        return np.full(len(users), len(self._items) > 0)

    def candidates(self, users: Rows, count: int, blocked: Matrix | None = None) -> Ranking:
        """New live items by recency and taste."""
        scores = np.full((len(users), len(self._catalogue.item_ids)), -np.inf, np.float32)
        scores[:, self._items] = self._recency * self._taste(users)
        hide(scores, self._catalogue.weights[users], blocked)
        return Ranking(*top_k(scores, count))

    def _taste(self, users: Rows) -> Floats:
        factors = self._factors
        predicted = relevance(factors.users[users] @ factors.items[self._items].T)
        known = np.outer(factors.warm_users[users], factors.warm_items[self._items])
        return np.where(known, predicted, np.float32(1.0))
