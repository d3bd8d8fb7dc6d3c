"""Items that many users like."""

import numpy as np

from services.candidate.sources.arrays import Mask, Matrix, Rows, top_k
from services.candidate.sources.catalogue import Catalogue
from services.candidate.sources.masks import hide
from services.candidate.sources.source import Predictor, Ranking


class Popular:
    """What a user would most likely want next if nothing were known of the user's taste."""

    name = "popular"

    def __init__(self, catalogue: Catalogue, predictor: Predictor) -> None:
        self._catalogue = catalogue
        self._predictor = predictor
        self._left_out = ~(catalogue.item_live & (catalogue.item_likes > 0))

    def worth_asking(self, users: Rows) -> Mask:
        """Everyone, as soon as anything is liked."""
        return np.full(len(users), not self._left_out.all())

    def candidates(self, users: Rows, count: int, blocked: Matrix | None = None) -> Ranking:
        """Live items that someone likes, by relevance without taste."""
        scores = self._predictor.popularity("items", users)
        scores[:, self._left_out] = -np.inf
        hide(scores, self._catalogue.weights[users], blocked)
        return Ranking(*top_k(scores, count))
