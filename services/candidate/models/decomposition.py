"""The truncated singular value decomposition of a matrix whose degrees are discounted."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import svds

from services.candidate.models.interactions import Decomposition, Interactions
from services.candidate.sources.arrays import Floats, Matrix

LEAST_VALUE = 1e-3
"""Share of the largest singular value below which one counts as 0."""
MOST_EXACT = 1500
"""Size of the smaller side up to which singular vectors are computed exactly."""


@dataclass(frozen=True, eq=False, slots=True)
class Basis:
    """The truncated singular value decomposition that several low-pass filters share."""

    vectors: Floats
    values: Floats
    degrees: Floats

    @classmethod
    def fit(cls, known: Interactions, rank: int, seed: int) -> Self:
        """The first right singular vectors of D_q^−½ M D_c^−½. Made once for both directions."""
        found = known.decompositions.get(seed)
        if found is None and (other := known.transposed.decompositions.get(seed)):
            found = Decomposition(other.right, other.values, other.left, other.rank)
        if found is None or found.rank < min(rank, min(known.matrix.shape) - 1):
            found = _decomposed(known.matrix, rank, seed)
        known.decompositions[seed] = found
        return cls(found.right, found.values, degrees(known.matrix)[1])


def _decomposed(matrix: Matrix, rank: int, seed: int) -> Decomposition:
    queries, candidates = degrees(matrix)
    scaled = diags_array(queries**-0.5) @ matrix @ diags_array(candidates**-0.5)
    rank = max(min(rank, min(matrix.shape) - 1), 1)
    if min(matrix.shape) <= MOST_EXACT:
        left, values, right = _exact(csr_array(scaled), rank)
    else:
        generator = np.random.default_rng(seed)
        start = generator.random(min(matrix.shape)).astype(np.float32)
        left, values, right = svds(csr_array(scaled), k=rank, v0=start, tol=1e-4, rng=generator)
    order = np.argsort(-values, kind="stable")
    # vectors of a value of 0 are whatever the solver began with
    order = order[values[order] > LEAST_VALUE * values.max(initial=0.0)]
    return Decomposition(
        np.ascontiguousarray(left[:, order], np.float32),
        values[order].astype(np.float32),
        np.ascontiguousarray(right[order].T, np.float32),
        rank,
    )


def _exact(scaled: Matrix, rank: int) -> tuple[Any, Any, Any]:
    """By the eigenvectors of the smaller side: an iterative solver misses repeated values, which
    small graphs of several parts have, and takes others by chance."""
    wide = scaled.shape[0] <= scaled.shape[1]
    short = csr_array(scaled if wide else scaled.T).astype(np.float64)
    size = short.shape[0]
    gram = np.asarray((short @ short.T).todense())
    squares, vectors = eigh(gram, subset_by_index=[size - rank, size - 1])
    values = np.sqrt(np.maximum(squares, 0))
    other = np.asarray(short.T @ vectors) / np.maximum(values, 1e-12)
    return (vectors, values, other.T) if wide else (other, values, vectors.T)


def degrees(matrix: Matrix) -> tuple[Floats, Floats]:
    """Row and column sums, at least 1."""
    queries = np.asarray(matrix.sum(axis=1), np.float32).ravel()
    candidates = np.asarray(matrix.sum(axis=0), np.float32).ravel()
    return np.maximum(queries, np.float32(1)), np.maximum(candidates, np.float32(1))
