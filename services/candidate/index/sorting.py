"""Sorted tables that grow by a few rows at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.candidate.sources.arrays import Rows

Column = npt.NDArray[Any]


def insertion_points(
    known: Sequence[Column], new: Sequence[Column], begins: Rows, ends: Rows
) -> Rows:
    """For each new row the first of the known ones, between its begin and its end, that isn't
    smaller; its end where there is none. Rows are compared column by column, and the known ones are
    sorted like that. A binary search of all at once: the known columns aren't gone through."""
    low, high = begins.copy(), ends.copy()
    while len(left := np.flatnonzero(low < high)):
        middle = (low[left] + high[left]) // 2
        smaller = _smaller([column[middle] for column in known], [column[left] for column in new])
        low[left[smaller]] = middle[smaller] + 1
        high[left[~smaller]] = middle[~smaller]
    return low


def _smaller(first: Sequence[Column], second: Sequence[Column]) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(first[0]), np.bool_)
    for one, other in zip(reversed(first), reversed(second), strict=True):
        found = (one < other) | ((one == other) & found)
    return found
