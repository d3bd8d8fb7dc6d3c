"""Items that users of like taste like."""

import numpy as np

from services.candidate.sources.arrays import Mask, Matrix, Rows, top_k
from services.candidate.sources.catalogue import Catalogue
from services.candidate.sources.masks import hide
from services.candidate.sources.source import Predictor, Ranking


class Collaborative:
    """Collaborative filtering: items by predicted relevance. Asked for users who like something."""

    name = "collaborative"

    def __init__(self, catalogue: Catalogue, predictor: Predictor) -> None:
        self._catalogue = catalogue
        self._predictor = predictor
        self._left_out = ~(catalogue.item_live & (catalogue.item_likes > 0))

    def worth_asking(self, users: Rows) -> Mask:
        """Users with at least one liked item."""
        return self._catalogue.user_likes[users] > 0

    def candidates(self, users: Rows, count: int, blocked: Matrix | None = None) -> Ranking:
        """Live items that someone likes, by predicted relevance."""
        scores = self._predictor.relevance("items", users)
        scores[:, self._left_out] = -np.inf
        hide(scores, self._catalogue.weights[users], blocked)
        return Ranking(*top_k(scores, count))
