"""New items by those whom a user follows."""

from datetime import datetime, timedelta

import numpy as np

from services.candidate.sources.arrays import NONE, Mask, Matrix, Rows, sparse
from services.candidate.sources.catalogue import Catalogue
from services.candidate.sources.fresh import recencies
from services.candidate.sources.paths import Paths
from services.candidate.sources.relations import Relations
from services.candidate.sources.source import Ranking


class Following:
    """Items created within the window by creators whom the user follows; the actor is the creator.

    The score is the item's recency, which falls from 1 to 0 over the window, times how strongly
    the user follows.
    """

    name = "following"
    reason = "FOLLOWED_CREATOR"

    def __init__(
        self, catalogue: Catalogue, relations: Relations, now: datetime, window: timedelta
    ) -> None:
        self._catalogue = catalogue
        self._relations = relations
        recency = recencies(catalogue.item_created, now, window)
        items = np.flatnonzero(
            catalogue.item_live & (recency > 0) & (relations.item_creators != NONE)
        )
        shape = (len(relations.actor_ids), len(catalogue.item_ids))
        self._offers = sparse(recency[items], relations.item_creators[items], items, shape)
        self._asked = relations.follows @ (np.diff(self._offers.indptr) > 0) > 0

    def worth_asking(self, users: Rows) -> Mask:
        """Who follows someone with a new item."""
        return self._asked[users]

    def candidates(self, users: Rows, count: int, blocked: Matrix | None = None) -> Ranking:
        """New live items of the followed, by recency and strength."""
        paths = Paths.walk(self._relations.follows[users], self._offers)
        known = self._catalogue.weights[users]
        return paths.without(known, blocked).ranking(
            len(users), len(self._relations.actor_ids), count
        )
