"""Scores of every user for every item, ranked a block of users at a time."""

from collections.abc import Callable

import numpy as np

from services.candidate.sources.arrays import NONE, Floats, Matrix, Rows, top_k
from services.candidate.sources.source import Ranking

BLOCK_CELLS = 2**20
"""Size of a block's table: small enough for a processor's cache, large enough for NumPy."""


class ItemTable:
    """Ranks some of the items."""

    def __init__(self, items: Rows, item_count: int) -> None:
        """`items` are the rows of those to choose from, out of `item_count`."""
        self.items = items
        self._columns = np.full(item_count, len(items), np.int64)
        self._columns[items] = np.arange(len(items))

    def ranking(
        self,
        users: Rows,
        count: int,
        score: Callable[[Rows], Floats],
        *hidden: Matrix | None,
    ) -> Ranking:
        """The best `count` items of each user, exact.

        `score` gives the scores of some users (rows of the catalogue) × the first of the items, as
        many as can matter. Stored entries of `hidden` (len(users) × all items) are left out.
        """
        block = max(1, BLOCK_CELLS // max(1, len(self.items)))
        parts = []
        for start in range(0, max(1, len(users)), block):
            end = start + block
            table = score(users[start:end])
            for entries in hidden:
                if entries is not None:
                    self._hide(table, entries[start:end])
            parts.append(top_k(table, count))
        width = max(values.shape[1] for _, values in parts)
        columns = np.concatenate([_widened(part, width, NONE) for part, _ in parts])
        scores = np.concatenate([_widened(part, width, -np.inf) for _, part in parts])
        items = np.append(self.items, NONE)[columns]  # NONE is the last position, too
        return Ranking(items, scores)

    def _hide(self, table: Floats, entries: Matrix) -> None:
        rows = np.repeat(np.arange(len(table)), np.diff(entries.indptr))
        columns = self._columns[entries.indices]
        inside = columns < table.shape[1]
        table[rows[inside], columns[inside]] = -np.inf


def _widened(part: np.ndarray, width: int, filler: float) -> np.ndarray:
    missing = width - part.shape[1]
    return np.pad(part, ((0, 0), (0, missing)), constant_values=filler) if missing else part
