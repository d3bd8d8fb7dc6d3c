"""The truncated singular value decomposition of a matrix whose degrees are discounted.

Degrees are smoothed by their mean: else the first vectors are those of small parts of the graph
that hang together by themselves, whose value is 1 whatever they are (regularised spectral
clustering: Amini et al., "Pseudo-likelihood methods for community detection in large sparse
networks", Annals of Statistics 2013). It is found by subspace iteration from random vectors (Halko,
Martinsson & Tropp, "Finding structure with randomness", SIAM Review 2011): a block of vectors finds
repeated values, at which Krylov methods that begin with one vector break down, and its time is
known beforehand.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import csr_array, diags_array

from services.candidate.models.interactions import Decomposition, Interactions
from services.candidate.sources.arrays import Floats, Matrix

LEAST_VALUE = 1e-3
"""Share of the largest singular value below which one counts as 0."""
MOST_EXACT = 1500
"""Size of the smaller side up to which singular vectors are computed exactly."""
SPARE = 32
"""Vectors that the iteration takes along beyond those wanted."""
ITERATIONS = 4
GRAM_ROWS = 65_536
"""Rows that are multiplied with themselves at a time."""
LEAST_SQUARE = 1e-10
"""Share of the largest eigenvalue of a Gram matrix below which one counts as 0: what single
precision leaves of a column that depends on others."""


@dataclass(frozen=True, eq=False, slots=True)
class Basis:
    """The truncated singular value decomposition that several low-pass filters share."""

    vectors: Floats
    values: Floats
    degrees: Floats

    @classmethod
    def fit(cls, known: Interactions, rank: int, seed: int, smoothing: float) -> Self:
        """The first right singular vectors of D_q^−½ M D_c^−½. Made once for both directions.
        `smoothing`: what is added to the degrees of each side, in units of their mean."""
        key = seed, smoothing
        found = known.decompositions.get(key)
        if found is None and (other := known.transposed.decompositions.get(key)):
            found = Decomposition(other.right, other.values, other.left, other.rank)
        if found is None or found.rank < min(rank, min(known.matrix.shape) - 1):
            found = _decomposed(known.matrix, rank, seed, smoothing)
        known.decompositions[key] = found
        return cls(found.right, found.values, _smoothed(known.matrix, smoothing)[1])


def _smoothed(matrix: Matrix, smoothing: float) -> tuple[Floats, Floats]:
    queries, candidates = degrees(matrix)
    return (
        queries + np.float32(smoothing) * queries.mean(),
        candidates + np.float32(smoothing) * candidates.mean(),
    )


def _decomposed(matrix: Matrix, rank: int, seed: int, smoothing: float) -> Decomposition:
    queries, candidates = _smoothed(matrix, smoothing)
    scaled = csr_array(diags_array(queries**-0.5) @ matrix @ diags_array(candidates**-0.5))
    rank = max(min(rank, min(matrix.shape) - 1), 1)
    if min(matrix.shape) <= MOST_EXACT:
        left, values, right = _exact(scaled, rank)
    else:
        left, values, right = _iterated(scaled, rank, seed)
    order = np.argsort(-values, kind="stable")
    # vectors of a value of 0 are whatever the solver began with
    order = order[values[order] > LEAST_VALUE * values.max(initial=0.0)]
    return Decomposition(
        np.ascontiguousarray(left[:, order], np.float32),
        values[order].astype(np.float32),
        np.ascontiguousarray(right[order].T, np.float32),
        rank,
    )


def _iterated(scaled: Matrix, rank: int, seed: int) -> tuple[Any, Any, Any]:
    """By subspace iteration."""
    turned = csr_array(scaled.T)
    size = min(rank + SPARE, *scaled.shape)
    generator = np.random.default_rng(seed)
    basis = generator.standard_normal((scaled.shape[1], size), np.float32)
    for _ in range(ITERATIONS):
        basis = _orthonormal(scaled @ basis)
        basis = _orthonormal(turned @ basis)
    image = np.asarray(scaled @ basis)
    values, turn = _singular(image)
    values, turn = values[:rank], turn[:, :rank]
    return image @ (turn / values), values, (basis @ turn).T


def _orthonormal(block: Floats) -> Floats:
    """Orthonormal columns that span what those of a block span; fewer where these depend on each
    other."""
    values, turn = _singular(block)
    found: Floats = block @ (turn / values)
    return found


def _singular(block: Floats) -> tuple[Floats, Floats]:
    """Singular values above 0 and right singular vectors of a block with many more rows than
    columns, from its Gram matrix, in a third to an eighth of the time of a QR decomposition."""
    gram = np.zeros((block.shape[1], block.shape[1]))
    for start in range(0, len(block), GRAM_ROWS):
        part = block[start : start + GRAM_ROWS].astype(np.float64)
        gram += part.T @ part
    squares, vectors = eigh(gram)
    above = np.flatnonzero(squares > LEAST_SQUARE * squares[-1])[::-1]
    return np.sqrt(squares[above]).astype(np.float32), vectors[:, above].astype(np.float32)


def _exact(scaled: Matrix, rank: int) -> tuple[Any, Any, Any]:
    """By the eigenvectors of the smaller side."""
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
