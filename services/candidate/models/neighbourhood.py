"""What fitted queries that are alike have met, the nearest counting most."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from services.candidate.models.decomposition import degrees
from services.candidate.sources.arrays import Floats, Matrix


@dataclass(frozen=True, eq=False, slots=True)
class Neighbourhood:
    """All fitted queries vote for their candidates, by a power of their similarity (Aiolli,
    "Efficient Top-N Recommendation for Very Large Scale Binary Rated Datasets", RecSys 2013). With
    the power 1 it is a `LinearFilter`; above it, many who are a little alike count for less than a
    few who are much alike."""

    table: Matrix
    """The fitted matrix, queries × candidates."""
    inward: Floats
    """Weight of a member that two profiles share: its degree to the power −a."""
    through: Floats
    """Weight of a fitted query's similarity: its degree to the power −b."""
    outward: Floats
    """Weight of a candidate: its degree to the power −c."""
    locality: float
    """The power of the similarity."""

    @classmethod
    def fit(cls, matrix: Matrix, powers: tuple[float, float, float], locality: float) -> Self:
        """`powers`: a, b and c."""
        queries, candidates = degrees(matrix)
        a, b, c = powers
        return cls(matrix, candidates**-a, queries**-b, candidates**-c, locality)

    def scores(self, profiles: Matrix) -> Floats:
        """Sum of the votes."""
        alike: Matrix = (profiles * self.inward) @ self.table.T
        alike.data = (alike.data * self.through[alike.indices]) ** np.float32(self.locality)
        votes = np.asarray(alike.todense(), np.float32)
        found: Floats = np.ascontiguousarray((self.table.T @ votes.T).T, np.float32)
        found *= self.outward
        return found

    def arrays(self) -> dict[str, Any]:
        """The degrees' powers, the locality and the matrix."""
        table = self.table
        return {
            "inward": self.inward,
            "through": self.through,
            "outward": self.outward,
            "locality": np.array([self.locality]),
            "indptr": table.indptr.astype(np.int64),
            "indices": table.indices.astype(np.int32),
            "data": table.data.astype(np.float32),
        }
