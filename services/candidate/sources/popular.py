"""Items that many users like."""

import numpy as np

from services.candidate.sources.arrays import Mask, Matrix, Rows, top_k
from services.candidate.sources.catalogue import Catalogue
from services.candidate.sources.masks import hide
from services.candidate.sources.source import Ranking


class Popular:
    """The most liked items that a user doesn't know yet; the score is the popularity."""

    name = "popular"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        liked = catalogue.item_live & (catalogue.item_likes > 0)
        self._scores = np.where(liked, catalogue.popularity, -np.inf).astype(np.float32)

    def worth_asking(self, users: Rows) -> Mask:
        """Everyone, as soon as anything is liked."""
        return np.full(len(users), bool(np.isfinite(self._scores).any()))

    def candidates(self, users: Rows, count: int, blocked: Matrix | None = None) -> Ranking:
        """Live items by number of likes."""
        scores = np.tile(self._scores, (len(users), 1))
        hide(scores, self._catalogue.weights[users], blocked)
        return Ranking(*top_k(scores, count))
