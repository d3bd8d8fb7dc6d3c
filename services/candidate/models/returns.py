"""What is met on a later visit by those who met the same before.

Within a visit the next interaction is often what the page shows next; what matters to somebody who
comes back in the next horizon is what others met when they came back. So paths lead from a profile
through interactions that another one followed, to interactions on a later visit: item-to-item
Markov chains over visits (Rendle, Freudenthaler & Schmidt-Thieme, "Factorizing Personalized Markov
Chains for Next-Basket Recommendation", WWW 2010), with degrees discounted as in `LinearFilter`.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from services.candidate.models.decomposition import degrees
from services.candidate.models.interactions import Interactions
from services.candidate.sources.arrays import Floats, Mask, Matrix, sparse

HOUR = 3600.0


@dataclass(frozen=True, eq=False, slots=True)
class ReturnFilter:
    """Two steps on the graph, the second one to later visits."""

    before: Matrix
    """Queries × candidates: what was met before a query's last visit."""
    after: Matrix
    """Queries × candidates: what was met after its first visit."""
    through: Floats
    """Weight of a query on the way: its degree to the power −b."""
    outward: Floats
    """Weight of a reached candidate: its degree to the power −c."""

    @classmethod
    def fit(cls, known: Interactions, gap: float, powers: tuple[float, float]) -> Self:
        """`gap`: hours without an interaction, after which another visit begins; `powers`: b and
        c. The interactions need times."""
        first, last = first_and_last_visits(known, gap * HOUR)
        queries, candidates = degrees(known.matrix)
        b, c = powers
        return cls(_liked(known, ~last), _liked(known, ~first), queries**-b, candidates**-c)

    def scores(self, profiles: Matrix) -> Floats:
        """Weighted count of paths from the profile."""
        reached = np.asarray((profiles @ self.before.T).todense(), np.float32)
        reached *= self.through
        found: Floats = np.ascontiguousarray((self.after.T @ reached.T).T, np.float32)
        found *= self.outward
        return found

    def arrays(self) -> dict[str, Any]:
        """Both matrices and the degrees' powers."""
        tables = {"before": self.before, "after": self.after}
        found: dict[str, Any] = {"through": self.through, "outward": self.outward}
        for name, table in tables.items():
            found[f"{name}_indptr"] = table.indptr.astype(np.int64)
            found[f"{name}_indices"] = table.indices.astype(np.int32)
            found[f"{name}_data"] = table.data.astype(np.float32)
        return found


def first_and_last_visits(known: Interactions, gap: float) -> tuple[Mask, Mask]:
    """Which interactions belong to the first, and which to the last visit of their user; visits are
    `gap` seconds or more apart."""
    if known.times is None:
        raise ValueError("visits need timestamps")
    order = np.lexsort((known.times, known.users))
    users, times = known.users[order], known.times[order]
    opening, closing = np.ones(len(order), np.bool_), np.ones(len(order), np.bool_)
    opening[1:] = closing[:-1] = np.diff(users) != 0
    begins = opening.copy()
    begins[1:] |= np.diff(times) >= gap
    visits = np.cumsum(begins)
    first, last = np.zeros_like(opening), np.zeros_like(opening)
    first[order] = np.isin(visits, visits[opening])
    last[order] = np.isin(visits, visits[closing])
    return first, last


def _liked(known: Interactions, rows: Mask) -> Matrix:
    chosen = rows & (known.weights > 0)
    ones = np.ones(int(chosen.sum()), np.float32)
    table = sparse(ones, known.users[chosen], known.items[chosen], known.matrix.shape)
    table.data[:] = 1.0
    return table
