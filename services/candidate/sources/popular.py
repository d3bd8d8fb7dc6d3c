"""Items that many users like."""

import numpy as np

from services.candidate.sources.arrays import Floats, Mask, Matrix, Rows
from services.candidate.sources.catalogue import Catalogue
from services.candidate.sources.source import Predictor, Ranking
from services.candidate.sources.tables import ItemTable


class Popular:
    """What a user would most likely want next if nothing were known of the user's taste."""

    name = "popular"
    reason = "POPULAR"

    def __init__(self, catalogue: Catalogue, predictor: Predictor) -> None:
        self._catalogue = catalogue
        liked = np.flatnonzero(catalogue.item_live & (catalogue.item_likes > 0))
        scores = predictor.popularity("items")
        order = liked[np.argsort(-scores[liked], kind="stable")]
        self._table = ItemTable(order, len(catalogue.item_ids))
        self._scores = scores[order]
        self._predictor = predictor

    def worth_asking(self, users: Rows) -> Mask:
        """Everyone, as soon as anything is liked."""
        return np.full(len(users), len(self._scores) > 0)

    def candidates(self, users: Rows, count: int, blocked: Matrix | None = None) -> Ranking:
        """Live items that someone likes, by relevance without taste."""
        known = self._catalogue.weights[users]
        hidden = np.diff(known.indptr) + (0 if blocked is None else np.diff(blocked.indptr))
        enough = count + int(hidden.max(initial=0))

        def score(block: Rows) -> Floats:
            return np.tile(self._scores[:enough], (len(block), 1))

        ranking = self._table.ranking(users, count, score, known, blocked)
        relevance = self._predictor.calibrated("items", users, ranking.scores)
        return Ranking(ranking.items, relevance)
