"""Vectors of queries and candidates that explain who met whom, and, more weakly, who met nobody.

Implicit alternating least squares, with the penalty of a row growing with its degree (Hu et al.,
"Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008; Rendle et al., "Revisiting the
Performance of iALS on Item Recommendation Benchmarks", RecSys 2022). Each half of a sweep takes a
few steps of conjugate gradients for all rows at once (Takács et al., RecSys 2011).
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_array

from services.candidate.sources.arrays import Floats, Matrix

SWEEPS = 5
STEPS = 3
"""Of conjugate gradients, in a half of a sweep."""
SOLVING_STEPS = 8
"""The same for a profile, whose vector begins at zero."""
BLOCK = 2048
"""Rows at a time."""
START = 0.1
"""Norm of the first vectors."""


@dataclass(frozen=True, eq=False, slots=True)
class ImplicitFactors:
    """A profile's vector is the one that explains its members best; its inner products with those
    of the candidates are the scores."""

    outward: Floats
    """Candidates × dimensions."""
    rest: float
    """Weight of a candidate that isn't in the profile."""
    penalty: float
    """Of a vector's square, times the weight of all candidates for its row."""

    @classmethod
    def fit(cls, matrix: Matrix, rank: int, rest: float, penalty: float, seed: int) -> Self:
        """Vectors of `rank` dimensions."""
        generator = np.random.default_rng(seed)
        queries, candidates = (
            (generator.standard_normal((size, rank)) * START / np.sqrt(rank)).astype(np.float32)
            for size in matrix.shape
        )
        turned = csr_array(matrix.T)
        for _ in range(SWEEPS):
            queries = _solved(matrix, candidates, queries, rest, penalty, STEPS)
            candidates = _solved(turned, queries, candidates, rest, penalty, STEPS)
        return cls(candidates, rest, penalty)

    def scores(self, profiles: Matrix) -> Floats:
        """The inner products."""
        start = np.zeros((profiles.shape[0], self.outward.shape[1]), np.float32)
        found = _solved(profiles, self.outward, start, self.rest, self.penalty, SOLVING_STEPS)
        return np.asarray(found @ self.outward.T, np.float32)

    def arrays(self) -> dict[str, Any]:
        """The candidates' vectors and both weights."""
        return {"outward": self.outward, "weights": np.array([self.rest, self.penalty])}


def _solved(
    matrix: Matrix, other: Floats, start: Floats, rest: float, penalty: float, steps: int
) -> Floats:
    """Vectors of the rows, some steps nearer to those of least loss, given those of the columns."""
    gram = np.float32(rest) * (other.T @ other)
    found = np.empty_like(start)
    for first in range(0, matrix.shape[0], BLOCK):
        part: Matrix = matrix[first : first + BLOCK]
        counts = np.diff(part.indptr)
        ridge = (penalty * (counts + rest * matrix.shape[1])).astype(np.float32)[:, None]
        found[first : first + BLOCK] = _conjugate(
            part, other[part.indices], gram, ridge, start[first : first + BLOCK], steps
        )
    return found


def _conjugate(
    part: Matrix, members: Floats, gram: Floats, ridge: Floats, start: Floats, steps: int
) -> Floats:
    """Steps of conjugate gradients for the rows of a part; `members`: the vectors of its entries,
    one after the other."""
    rows = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
    places = np.arange(len(members))

    def summed(values: Floats) -> Floats:
        table = csr_array((values, places, part.indptr), shape=(part.shape[0], len(members)))
        return np.asarray(table @ members, np.float32)

    def product(vectors: Floats) -> Floats:
        inner = np.einsum("nf,nf->n", members, vectors[rows])
        found: Floats = summed(inner) + vectors @ gram + ridge * vectors
        return found

    x = start.copy()
    residual = summed(np.ones(len(members), np.float32)) - product(x)
    direction, square = residual.copy(), np.einsum("nf,nf->n", residual, residual)
    for _ in range(steps):
        image = product(direction)
        length = square / np.maximum(np.einsum("nf,nf->n", direction, image), 1e-20)
        x += length[:, None] * direction
        residual -= length[:, None] * image
        before, square = square, np.einsum("nf,nf->n", residual, residual)
        direction = residual + (square / np.maximum(before, 1e-20))[:, None] * direction
    return x
