"""What fitted queries that are alike have met, the nearest counting most."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from services.candidate.models.scorers import LinearFilter
from services.candidate.sources.arrays import Floats, Matrix


@dataclass(frozen=True, eq=False, slots=True)
class Neighbourhood:
    """All fitted queries vote for their candidates, by a power of their similarity (Aiolli,
    "Efficient Top-N Recommendation for Very Large Scale Binary Rated Datasets", RecSys 2013). With
    the power 1 it is the filter itself; above it, many who are a little alike count for less than a
    few who are much alike."""

    plain: LinearFilter
    """Whose first step is the similarity."""
    locality: float
    """The power of the similarity."""

    def scores(self, profiles: Matrix) -> Floats:
        """Sum of the votes."""
        table, through = self.plain.table, self.plain.through
        alike: Matrix = (profiles * self.plain.inward) @ table.T
        alike.data = (alike.data * through[alike.indices]) ** np.float32(self.locality)
        votes = np.asarray(alike.todense(), np.float32)
        found: Floats = np.ascontiguousarray((table.T @ votes.T).T, np.float32)
        found *= self.plain.outward
        return found

    def arrays(self) -> dict[str, Any]:
        """Those of the filter, and the locality."""
        return {**self.plain.arrays(), "locality": np.array([self.locality])}
