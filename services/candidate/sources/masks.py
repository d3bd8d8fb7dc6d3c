"""Leaving out what must not be proposed."""

import numpy as np

from services.candidate.sources.arrays import Floats, Matrix


def hide(scores: Floats, *pairs: Matrix | None) -> None:
    """Set the scores (users × items) of all stored entries of sparse tables to −inf, in place."""
    for table in pairs:
        if table is not None:
            rows = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
            scores[rows, table.indices] = -np.inf
