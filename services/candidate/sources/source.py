"""The interface of a source, and how several sources' proposals become one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from services.candidate.sources.arrays import NONE, Floats, Mask, Matrix, Rows

Side = Literal["items", "users"]
"""What is recommended, the candidates: items to users, or users to items."""


class Predictor(Protocol):
    """What a fitted model says. Rows are those of the catalogue; queries are users where items are
    the candidates, items where users are."""

    def relevance(self, side: Side, rows: Rows) -> Floats:
        """Probability that query and candidate interact within the horizon: queries ×
        candidates."""

    def popularity(self, side: Side, rows: Rows) -> Floats:
        """The same if nothing were known of the queries' taste."""

    def pairs(self, users: Rows, items: Rows) -> Floats:
        """The relevance of pairs of a user and an item."""


@dataclass(frozen=True, eq=False, slots=True)
class Ranking:
    """What one source proposes to each of some users, best first."""

    items: Rows
    """Users × places: item rows; NONE where there is nothing more."""
    scores: Floats
    """How promising the source thinks each is, in [0, 1]; −inf at NONE."""


class Source(Protocol):
    """Makes candidates. `users` are rows of the catalogue, a chunk at a time."""

    name: str

    def worth_asking(self, users: Rows) -> Mask:
        """For which of the users the source may have something."""

    def candidates(self, users: Rows, count: int, blocked: Matrix | None = None) -> Ranking:
        """At most `count` items for each user, exact by the source's own score.

        Never an item that the user has interacted with, one that is not live, or one marked in
        `blocked` (len(users) × items, sparse, any stored entry blocks).
        """


@dataclass(slots=True)
class SourceCount:
    """What became of one source's proposals."""

    proposed: int = 0
    dropped: int = 0
    """An earlier source proposed the same item to the same user."""


@dataclass(frozen=True, eq=False, slots=True)
class Proposals:
    """Candidates of several sources, each (user, item) once: four aligned arrays.

    By source, then user, then place.
    """

    users: Rows
    """Rows of users."""
    items: Rows
    """Rows of items."""
    scores: Floats
    """The source's score, in [0, 1]."""
    sources: Rows
    """Positions in `names`."""
    names: Sequence[str]
    """The sources that answered, in their order."""
    counts: Mapping[str, SourceCount] = field(default_factory=dict)
    failed: Mapping[str, Exception] = field(default_factory=dict)
    """Why the others did not."""


def propose(
    sources: Sequence[Source], users: Rows, count: int, blocked: Matrix | None = None
) -> Proposals:
    """Ask each source for `count` items for each user; an item is kept for the first that has it.
    A source that fails is left out (invariant 11).

    `blocked` is len(users) × items, see Source.candidates.
    """
    names: list[str] = []
    parts: list[tuple[Rows, Rows, Floats]] = []
    failed: dict[str, Exception] = {}
    for source in sources:
        try:
            parts.append(_flat(source, users, count, blocked))
            names.append(source.name)
        except Exception as error:
            failed[source.name] = error
    owners = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, np.int64)
    items = np.concatenate([part[1] for part in parts]) if parts else np.empty(0, np.int64)
    scores = np.concatenate([part[2] for part in parts]) if parts else np.empty(0, np.float32)
    origin = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    span = int(items.max(initial=0)) + 1
    _, first = np.unique(owners * span + items, return_index=True)
    kept = np.sort(first)
    proposed = np.bincount(origin, minlength=len(parts))
    remaining = np.bincount(origin[kept], minlength=len(parts))
    counts = {
        name: SourceCount(int(proposed[place]), int(proposed[place] - remaining[place]))
        for place, name in enumerate(names)
    }
    return Proposals(owners[kept], items[kept], scores[kept], origin[kept], names, counts, failed)


def _flat(
    source: Source, users: Rows, count: int, blocked: Matrix | None
) -> tuple[Rows, Rows, Floats]:
    asked = np.flatnonzero(source.worth_asking(users))
    ranking = source.candidates(users[asked], count, None if blocked is None else blocked[asked])
    found = ranking.items != NONE
    owners = np.repeat(users[asked], ranking.items.shape[1]).reshape(ranking.items.shape)
    return owners[found], ranking.items[found], ranking.scores[found]
