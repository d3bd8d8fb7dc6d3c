"""The interface of a source, and how several sources' proposals become one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal, Protocol

import numpy as np
from scipy.sparse import vstack

from services.candidate.sources.arrays import NONE, Floats, Mask, Matrix, Rows

Side = Literal["items", "users"]
"""What is recommended, the candidates: items to users, or users to items."""


class Predictor(Protocol):
    """What a fitted model says. Rows are those of the catalogue; queries are users where items are
    the candidates, items where users are. A query's relevance grows with its scores."""

    def scores(self, side: Side, rows: Rows, some: Rows | None = None) -> Floats:
        """Queries × candidates, or some of the candidates; all finite."""

    def popularity(self, side: Side) -> Floats:
        """The scores of all candidates for a query of whose taste nothing is known."""

    def calibrated(self, side: Side, rows: Rows, scores: Floats) -> Floats:
        """The probabilities that queries (`rows`) and candidates with these scores (queries × any)
        interact within the horizon. −inf stays."""

    def relevance(self, side: Side, rows: Rows, some: Rows | None = None) -> Floats:
        """The same of all candidates, or some of them."""

    def pairs(self, users: Rows, items: Rows) -> Floats:
        """The relevance of pairs of a user and an item."""


@dataclass(frozen=True, eq=False, slots=True)
class Ranking:
    """What one source proposes to each of some users, best first."""

    items: Rows
    """Users × places: item rows; NONE where there is nothing more."""
    scores: Floats
    """How promising the source thinks each is, in [0, 1]; −inf at NONE."""
    actors: Matrix | None = None
    """(Users × places, flattened) × actors (see Relations): because of whom, strongest first. None:
    the source names nobody."""


class Source(Protocol):
    """Makes candidates. `users` are rows of the catalogue, a chunk at a time."""

    name: str
    reason: str
    """Why it proposes, for machines, in UPPER_SNAKE_CASE."""

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
    seconds: float = 0.0
    """How long asking took."""


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
    actors: Matrix
    """Candidates × actors: because of whom, strongest first."""
    names: Sequence[str]
    """The sources that answered, in their order."""
    worth: Mask
    """Users asked about × `names`: where the source said that it may have something."""
    counts: Mapping[str, SourceCount] = field(default_factory=dict)
    failed: Mapping[str, Exception] = field(default_factory=dict)
    """Why the others did not."""


@dataclass(frozen=True, eq=False, slots=True)
class _Part:
    """One source's candidates."""

    worth: Mask
    users: Rows
    items: Rows
    scores: Floats
    actors: Matrix | None
    seconds: float


def propose(
    sources: Sequence[Source],
    users: Rows,
    count: int,
    blocked: Matrix | None = None,
    ask: Mask | None = None,
) -> Proposals:
    """Ask each source for `count` items for each user; an item is kept for the first that has it.
    A source that fails is left out (invariant 11).

    `blocked` is len(users) × items, see Source.candidates; `ask`, len(users) × len(sources), says
    which source may be asked for whom (None: each for all).
    """
    parts: dict[str, _Part] = {}
    failed: dict[str, Exception] = {}
    for place, source in enumerate(sources):
        wanted = np.ones(len(users), np.bool_) if ask is None else ask[:, place]
        try:
            parts[source.name] = _asked(source, users, count, blocked, wanted)
        except Exception as error:
            failed[source.name] = error
    none = np.empty(0, np.int64)
    owners = np.concatenate([none, *(part.users for part in parts.values())])
    items = np.concatenate([none, *(part.items for part in parts.values())])
    scores = np.concatenate([none, *(part.scores for part in parts.values())], dtype=np.float32)
    sizes = [len(part.users) for part in parts.values()]
    origin = np.repeat(np.arange(len(parts)), sizes)
    span = int(items.max(initial=0)) + 1
    _, first = np.unique(owners * span + items, return_index=True)
    kept = np.sort(first)
    remaining = np.bincount(origin[kept], minlength=len(parts))
    counts = {
        name: SourceCount(sizes[place], sizes[place] - int(remaining[place]), part.seconds)
        for place, (name, part) in enumerate(parts.items())
    }
    return Proposals(
        users=owners[kept],
        items=items[kept],
        scores=scores[kept],
        sources=origin[kept],
        actors=_stacked(list(parts.values()))[kept],
        names=list(parts),
        worth=np.array([part.worth for part in parts.values()], np.bool_)
        .reshape(len(parts), len(users))
        .T,
        counts=counts,
        failed=failed,
    )


def _asked(source: Source, users: Rows, count: int, blocked: Matrix | None, wanted: Mask) -> _Part:
    began = perf_counter()
    worth = source.worth_asking(users)
    asked = np.flatnonzero(worth & wanted)
    ranking = source.candidates(users[asked], count, None if blocked is None else blocked[asked])
    found = ranking.items != NONE
    owners = np.repeat(users[asked], ranking.items.shape[1]).reshape(ranking.items.shape)
    actors = None if ranking.actors is None else ranking.actors[found.ravel()]
    return _Part(
        worth,
        owners[found],
        ranking.items[found],
        ranking.scores[found],
        actors,
        perf_counter() - began,
    )


def _stacked(parts: Sequence[_Part]) -> Matrix:
    width = max((part.actors.shape[1] for part in parts if part.actors is not None), default=0)
    rows = [
        Matrix((len(part.users), width), dtype=np.float32) if part.actors is None else part.actors
        for part in parts
    ]
    stacked: Any = vstack(rows or [Matrix((0, 0), dtype=np.float32)], format="csr")
    return Matrix(stacked)
