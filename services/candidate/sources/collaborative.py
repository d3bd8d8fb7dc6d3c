"""Items that users of like taste like."""

import numpy as np

from services.candidate.sources.arrays import Floats, Mask, Matrix, Rows, top_k
from services.candidate.sources.catalogue import Catalogue
from services.candidate.sources.factors import Factors, relevance
from services.candidate.sources.masks import hide
from services.candidate.sources.source import Ranking


class Collaborative:
    """Collaborative filtering: items by predicted relevance. Asked for users who like something."""

    name = "collaborative"

    def __init__(self, catalogue: Catalogue, factors: Factors) -> None:
        self._catalogue = catalogue
        self._factors = factors
        self._left_out = ~(catalogue.item_live & factors.warm_items)

    def worth_asking(self, users: Rows) -> Mask:
        """Users with at least one liked item."""
        return self._factors.warm_users[users]

    def candidates(self, users: Rows, count: int, blocked: Matrix | None = None) -> Ranking:
        """Live items that someone likes, by predicted relevance."""
        scores: Floats = relevance(self._factors.users[users] @ self._factors.items.T)
        scores[:, self._left_out] = -np.inf
        hide(scores, self._catalogue.weights[users], blocked)
        return Ranking(*top_k(scores, count))
