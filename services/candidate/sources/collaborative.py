"""Items that users of like taste like."""

import numpy as np

from services.candidate.sources.arrays import Floats, Mask, Matrix, Rows
from services.candidate.sources.catalogue import Catalogue
from services.candidate.sources.source import Predictor, Ranking
from services.candidate.sources.tables import ItemTable


class Collaborative:
    """Collaborative filtering: items by predicted relevance. Asked for users who like something."""

    name = "collaborative"
    reason = "SIMILAR_TASTE"

    def __init__(self, catalogue: Catalogue, predictor: Predictor) -> None:
        self._catalogue = catalogue
        self._predictor = predictor
        items = np.flatnonzero(catalogue.item_live & (catalogue.item_likes > 0))
        self._table = ItemTable(items, len(catalogue.item_ids))

    def worth_asking(self, users: Rows) -> Mask:
        """Users with at least one liked item."""
        return self._catalogue.user_likes[users] > 0

    def candidates(self, users: Rows, count: int, blocked: Matrix | None = None) -> Ranking:
        """Live items that someone likes, by predicted relevance."""

        def score(block: Rows) -> Floats:
            return self._predictor.scores("items", block, self._table.items)

        known = self._catalogue.weights[users]
        ranking = self._table.ranking(users, count, score, known, blocked)
        relevance = self._predictor.calibrated("items", users, ranking.scores)
        return Ranking(ranking.items, relevance)
