"""Items that a user's friends have liked lately."""

from datetime import datetime, timedelta

import numpy as np

from services.candidate.sources.arrays import Mask, Matrix, Rows, below, empty
from services.candidate.sources.catalogue import Catalogue
from services.candidate.sources.fresh import recencies
from services.candidate.sources.paths import Paths
from services.candidate.sources.relations import Relations
from services.candidate.sources.source import Ranking


class FriendActivity:
    """Items that friends like (their weights sum to more than 0) and interacted with within the
    window; the actors are those friends.

    Each friend counts with the closeness times the recency of the friend's latest interaction,
    which falls from 1 to 0 over the window; more friends make a higher score.
    """

    name = "friend_activity"
    reason = "FRIENDS_LIKED"

    def __init__(
        self,
        catalogue: Catalogue,
        relations: Relations,
        now: datetime,
        window: timedelta,
        elsewhere: Matrix | None = None,
    ) -> None:
        """`elsewhere`: actors who are no users of the catalogue × items: the recency of what they
        liked within the window. None: nothing."""
        self._catalogue = catalogue
        self._relations = relations
        others = len(relations.actor_ids) - len(catalogue.user_ids)
        nothing = empty(others, len(catalogue.item_ids))
        own = _liked_lately(catalogue, now, window)
        self._offers = below(own, nothing if elsewhere is None else elsewhere)
        self._asked = relations.friends @ (np.diff(self._offers.indptr) > 0) > 0

    def worth_asking(self, users: Rows) -> Mask:
        """Who has a friend that liked something lately."""
        return self._asked[users]

    def candidates(self, users: Rows, count: int, blocked: Matrix | None = None) -> Ranking:
        """Live items by the number of friends, their closeness and recency."""
        paths = Paths.walk(self._relations.friends[users], self._offers)
        known = self._catalogue.weights[users]
        return paths.without(known, blocked).ranking(
            len(users), len(self._relations.actor_ids), count
        )


def _liked_lately(catalogue: Catalogue, now: datetime, window: timedelta) -> Matrix:
    """Users × items: the recency of what they liked within the window."""
    weights = catalogue.weights
    recency = recencies(catalogue.latest, now, window)
    kept = (recency > 0) & (weights.data > 0) & catalogue.item_live[weights.indices]
    starts = np.append(0, np.cumsum(kept))[weights.indptr]
    return Matrix((recency[kept], weights.indices[kept], starts), shape=weights.shape)
