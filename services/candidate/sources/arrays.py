"""Array types, and the exact choice of the best entries."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, hstack, vstack

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Times = npt.NDArray[np.datetime64]
Matrix = csr_array[Any, tuple[int, int]]
"""Sparse matrix, users × items."""


def sparse(values: Floats, rows: Rows, columns: Rows, shape: tuple[int, int]) -> Matrix:
    """A sparse matrix of entries; several for one place are added up."""
    entries: Any = (values, (rows, columns))
    matrix: Matrix = csr_array(entries, shape=shape)
    matrix.sum_duplicates()
    return matrix


def changes(*columns: Rows) -> Mask:
    """Where sorted rows differ from the one before; the first one does."""
    found = np.ones(len(columns[0]), np.bool_)
    if len(found):
        found[1:] = columns[0][1:] != columns[0][:-1]
        for column in columns[1:]:
            found[1:] |= column[1:] != column[:-1]
    return found


def empty(rows: int, columns: int) -> Matrix:
    """A sparse matrix without entries."""
    none = np.empty(0, np.int64)
    return sparse(np.empty(0, np.float32), none, none, (rows, columns))


def below(first: Matrix, second: Matrix) -> Matrix:
    """The rows of one sparse matrix, then those of another."""
    stacked: Any = vstack([first, second], format="csr")
    return Matrix(stacked)


def beside(first: Matrix, second: Matrix) -> Matrix:
    """The columns of one sparse matrix, then those of another."""
    stacked: Any = hstack([first, second], format="csr")
    return Matrix(stacked)


NONE = -1
"""Fills a row of chosen positions up to its length."""


def top_k(scores: Floats, count: int) -> tuple[Rows, Floats]:
    """Exact best `count` columns of each row, best first, of a users × items table.

    Returns positions and scores, each users × min(count, items); entries of −inf are never chosen
    and leave NONE and −inf. Equal scores within the choice come in column order; which of equal
    scores at its edge are chosen is arbitrary, but the same for the same row.
    """
    width = min(count, scores.shape[1])
    if width == 0:
        return np.empty((len(scores), 0), np.int64), np.empty((len(scores), 0), np.float32)
    if width < scores.shape[1]:
        chosen = np.argpartition(-scores, width - 1, axis=1)[:, :width]
        chosen.sort(axis=1)
    else:
        chosen = np.tile(np.arange(width), (len(scores), 1))
    values = np.take_along_axis(scores, chosen, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    chosen = np.take_along_axis(chosen, order, axis=1)
    values = np.take_along_axis(values, order, axis=1)
    return np.where(np.isneginf(values), NONE, chosen), values


def best(scores: Floats, count: int) -> Rows:
    """Positions of the exact best `count` entries of a vector, by (score descending, position).

    Entries of −inf are left out. This is a total order, so pages of it fit together.
    """
    open_positions = np.flatnonzero(~np.isneginf(scores))
    if count < len(open_positions):
        values = scores[open_positions]
        edge = np.partition(values, len(values) - count)[len(values) - count]
        above = open_positions[values > edge]
        level = open_positions[values == edge][: count - len(above)]
        open_positions = np.sort(np.concatenate([above, level]))
    order = np.argsort(-scores[open_positions], kind="stable")
    return open_positions[order].astype(np.int64)
