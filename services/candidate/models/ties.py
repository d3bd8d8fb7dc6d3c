"""Social ties as an attribute of users: with whom they are tied, themselves included.

So one without interactions borrows from whom it follows or is friends with, and from who is tied to
the same, as from those alike by any other attribute; rare ties weigh more.
"""

from collections.abc import Sequence

import numpy as np

from services.candidate.sources.arrays import Rows

TIES = "(ties)"
"""Name of the attribute, which no column has."""


def tie_lists(ids: Sequence[str], users: Rows, targets: Rows) -> list[list[str] | None]:
    """By row of `ids`: its own id and those it is tied to; None where no tie names it. `users` and
    `targets`: rows of each tie's ends."""
    order = np.argsort(users, kind="stable")
    ends = np.searchsorted(users[order], np.arange(len(ids) + 1))
    tied = targets[order]
    named = np.zeros(len(ids), np.bool_)
    named[users], named[targets] = True, True
    found: list[list[str] | None] = [None] * len(ids)
    for row in np.flatnonzero(named).tolist():
        others = tied[ends[row] : ends[row + 1]].tolist()
        found[row] = [ids[row], *(ids[other] for other in others)]
    return found
