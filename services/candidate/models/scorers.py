"""Collaborative scorers: from the candidates of a query's profile to a score of every candidate.

All are written for a matrix of queries × candidates. Forwards the queries are users and a profile
is what they interacted with; backwards the queries are items and a profile is who interacted with
them. A profile needn't be a row of the fitted matrix, so new and cold queries are scored alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri

from services.candidate.models.decomposition import Basis, degrees
from services.candidate.sources.arrays import Floats, Matrix

MOST_DENSE = 6000
"""Candidates up to which a dense candidates × candidates matrix is fitted (144 MB in float32)."""
Arrays = Mapping[str, Any]


class Scorer(Protocol):
    """Scores all candidates for profiles."""

    def scores(self, profiles: Matrix) -> Floats:
        """Dense len(profiles) × candidates, float32."""

    def arrays(self) -> dict[str, Any]:
        """What `load` needs, as plain arrays."""


@dataclass(frozen=True, eq=False, slots=True)
class Ease:
    """Linear item-to-item weights in closed form (Steck, "Embarrassingly Shallow Autoencoders for
    Sparse Data", WWW 2019). Candidates² of memory."""

    weights: Floats

    @classmethod
    def fit(cls, matrix: Matrix, penalty: float) -> Self:
        """`penalty`: the L2 weight, relative to the mean profile count of a candidate."""
        gram = np.asarray((matrix.T @ matrix).todense(), np.float64)
        counts = gram.diagonal().copy()
        mean = counts[counts > 0].mean() if (counts > 0).any() else 1.0
        gram[np.diag_indices_from(gram)] += penalty * mean
        inverse = _inverse(gram)
        table = -inverse / inverse.diagonal()
        np.fill_diagonal(table, 0.0)
        return cls(np.ascontiguousarray(table, np.float32))

    def scores(self, profiles: Matrix) -> Floats:
        """Sum of the weights of the profile's members."""
        return np.asarray(profiles @ self.weights, np.float32)

    def arrays(self) -> dict[str, Any]:
        """The weights."""
        return {"weights": self.weights}


def _inverse(gram: Any) -> Any:
    """Of a positive definite matrix, by Cholesky: a third of the work of a general inverse."""
    factor, failed = dpotrf(gram, lower=1)
    lower, failed_too = dpotri(factor, lower=1)
    if failed or failed_too:
        raise np.linalg.LinAlgError("the Gram matrix is not positive definite")
    below = np.tril(lower)
    return below + np.tril(lower, -1).T


@dataclass(frozen=True, eq=False, slots=True)
class LinearFilter:
    """Two steps on the graph, with the degrees discounted by powers: profile → candidates it
    shares queries with (LinkProp: Fu et al., "Revisiting Neighborhood-based Link Prediction for
    Collaborative Filtering", WWW Companion 2022)."""

    table: Matrix
    """The fitted matrix, queries × candidates."""
    inward: Floats
    """Weight of a profile's member: its degree to the power −a."""
    through: Floats
    """Weight of a fitted query on the way: its degree to the power −b."""
    outward: Floats
    """Weight of a reached candidate: its degree to the power −c."""

    @classmethod
    def fit(cls, matrix: Matrix, powers: tuple[float, float, float]) -> Self:
        """`powers`: a, b and c."""
        queries, candidates = degrees(matrix)
        a, b, c = powers
        return cls(matrix, candidates**-a, queries**-b, candidates**-c)

    def scores(self, profiles: Matrix) -> Floats:
        """Weighted count of paths of length two from the profile."""
        first = np.asarray(((profiles * self.inward) @ self.table.T).todense(), np.float32)
        first *= self.through
        reached: Floats = np.ascontiguousarray((self.table.T @ first.T).T, np.float32)
        reached *= self.outward
        return reached

    def arrays(self) -> dict[str, Any]:
        """The degrees' powers and the matrix."""
        table = self.table
        return {
            "inward": self.inward,
            "through": self.through,
            "outward": self.outward,
            "indptr": table.indptr.astype(np.int64),
            "indices": table.indices.astype(np.int32),
            "data": table.data.astype(np.float32),
        }


@dataclass(frozen=True, eq=False, slots=True)
class Factors:
    """An inner product: a profile's members add up to a vector, each candidate has one."""

    inward: Floats
    """Candidates × dimensions: what a profile's members add up."""
    outward: Floats
    """Candidates × dimensions: what the sum is multiplied with."""

    @classmethod
    def low_pass(
        cls, basis: Basis, rank: int, powers: tuple[float, float], sharpness: float = 0.0
    ) -> Self:
        """Ideal low-pass filter (the second part of GF-CF: Shen et al., "How Powerful is Graph
        Convolution for Recommendation?", CIKM 2021): the first `rank` singular vectors, profile
        members weighted by degree^−a, reached candidates by degree^c, and vectors by the singular
        value to the power `sharpness`."""
        rank = min(rank, len(basis.values))
        vectors = basis.vectors[:, :rank]
        gain = (basis.values[:rank] / max(basis.values[0], 1e-12)) ** sharpness
        a, c = powers
        inward = vectors * (basis.degrees**-a)[:, None]
        outward = vectors * gain * (basis.degrees**c)[:, None]
        return cls(
            np.ascontiguousarray(inward, np.float32), np.ascontiguousarray(outward, np.float32)
        )

    def scores(self, profiles: Matrix) -> Floats:
        """The inner products."""
        return np.asarray((profiles @ self.inward) @ self.outward.T, np.float32)

    def arrays(self) -> dict[str, Any]:
        """Both sets of vectors."""
        return {"inward": self.inward, "outward": self.outward}
