"""Users who are like a user, and the user like them: relevance is the smaller of two ranks.

A rank is 1 − (others who are nearer) / (others), from the user to another and back, among all users
who like something. The users may lie in several parts, each of which knows its own.

The ranks from the user are known of everybody and bound relevance, and so the score, from above;
one back takes a look at everybody. The others come in the order of the bound, MOST_MATCHED at most,
so that the cost grows linearly with the users. A later page looks at those again who stand on
earlier ones: only a look tells that they do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from services.candidate.merging import matched
from services.candidate.questions import Audience, Choice, Found, Page, Place
from services.candidate.recommend import units
from services.candidate.sources.arrays import Floats, Mask, Rows
from services.runtime.together import together

MOST_MATCHED = 2_048
"""Others whose rank of the user is looked up at most, on all pages; more for a first page that has
room for more."""
MATCHED_AT_ONCE = 64
SAME = 2e-6
"""Cosines as near as this are equal: of the same vectors they differ by rounding, with the order in
which products are added up."""


class Part(Protocol):
    """Some of the users, for one question."""

    async def cosines(self) -> Floats:
        """Of the user with each of the part's who likes something but the user, ascending."""

    async def candidates(self, nearer: Rows, others: int, most: int) -> Found:
        """The best `most` by score with the rank from the user as relevance, with as many nearer as
        told for each of `cosines`, of so many others. In any order."""

    async def tastes(self, places: Rows) -> Floats:
        """Of the candidates at these places in the answer, [n, d], of length 1."""

    async def count_nearer(self, tastes: Floats, least: Floats) -> Rows:
        """How many of the part's users who like something have a greater cosine than `least` with
        each of some tastes of length 1."""

    async def scores(self, places: Rows, relevance: Floats) -> Floats:
        """Of the candidates at these places, from their relevance; −inf for who is left out."""


async def match(parts: Sequence[Part], taste: Floats, choice: Choice, page: Page) -> Audience:
    """The best by both ranks, for a user of whom something is known. A spread is over all who are
    looked at."""
    most = max(MOST_MATCHED, choice.count) if page.after is None else MOST_MATCHED
    search = await _Search.begin(parts, taste, most, page.after)
    whole = choice.diversity is not None and choice.diversity.strength > 0
    await search.run(len(search.order) if whole else choice.count + 1)
    return matched(search.found, search.scores, search.relevance, choice, page)


@dataclass(eq=False, slots=True)
class _Search:
    parts: Sequence[Part]
    found: Sequence[Found]
    """The candidates of each part; below, arrays are over those of all parts, in their order."""
    taste: Floats
    others: int
    part: Rows
    place: Rows
    """In the part's answer."""
    bounds: Floats
    ranks: Floats
    """From the user."""
    order: Rows
    """Best bound first, of equal ones the lower id."""
    after: Place | None
    lower: Mask
    """Whose ids are up to that of the place."""
    scores: Floats = field(init=False)
    """−inf: not looked at, or left out."""
    relevance: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.scores, self.relevance = np.full((2, len(self.part)), -np.inf, np.float32)

    @staticmethod
    async def begin(
        parts: Sequence[Part], taste: Floats, most: int, after: Place | None
    ) -> "_Search":
        cosines = await together([part.cosines() for part in parts])
        everyone = np.sort(np.concatenate(cosines))
        others = max(len(everyone) - 1, 1)
        found = await together(
            [
                part.candidates(len(everyone) - _up_to(everyone, own + SAME), others, most)
                for part, own in zip(parts, cosines, strict=True)
            ]
        )
        sizes = [len(each.audience.ids) for each in found]
        bounds = _joined([each.audience.scores for each in found])
        ids = [name for each in found for name in each.audience.ids]
        order = sorted(range(len(ids)), key=lambda one: (-bounds[one], ids[one]))[:most]
        return _Search(
            parts=parts,
            found=found,
            taste=units(taste[None, :])[0],
            others=others,
            part=np.repeat(np.arange(len(parts)), sizes),
            place=np.concatenate([np.arange(size) for size in sizes]),
            bounds=bounds,
            ranks=_joined([each.audience.relevance for each in found]),
            order=np.array(order, np.int64),
            after=after,
            lower=np.array([after is not None and name <= after.id for name in ids], np.bool_),
        )

    async def run(self, wanted: int) -> None:
        """Look at candidates until no further one can be among the best `wanted` behind the
        place."""
        for start in range(0, len(self.order), MATCHED_AT_ONCE):
            if start >= wanted:
                done = np.partition(self._behind(self.order[:start]), start - wanted)
                if done[start - wanted] > self.bounds[self.order[start]]:
                    return
            await self._look(np.sort(self.order[start : start + MATCHED_AT_ONCE]))

    def _behind(self, rows: Rows) -> Floats:
        """Scores of candidates, −inf for those who stand up to the place."""
        scores = self.scores[rows]
        if self.after is not None:
            end = np.float32(self.after.score)
            scores[(scores > end) | ((scores == end) & self.lower[rows])] = -np.inf
        return scores

    async def _look(self, chosen: Rows) -> None:
        """At some candidates, ascending."""
        own = [chosen[self.part[chosen] == number] for number in range(len(self.parts))]
        asked = [(part, mine) for part, mine in zip(self.parts, own, strict=True) if len(mine)]
        tastes = np.concatenate(
            await together([part.tastes(self.place[mine]) for part, mine in asked])
        )
        least = tastes @ self.taste + np.float32(SAME)
        nearer = np.sum(
            await together([part.count_nearer(tastes, least) for part in self.parts]), axis=0
        )
        nearer -= least < 1.0  # each is nearest to itself
        self.relevance[chosen] = np.minimum(self.ranks[chosen], rank(nearer, self.others))
        self.scores[chosen] = np.concatenate(
            await together(
                [part.scores(self.place[mine], self.relevance[mine]) for part, mine in asked]
            )
        )


def rank(nearer: Rows, others: int) -> Floats:
    """1 for who has nobody nearer, 0 for the farthest of all."""
    found: Floats = (1.0 - nearer / others).astype(np.float32)
    return found


def _joined(parts: Sequence[Sequence[float]]) -> Floats:
    return np.concatenate([np.array(part, np.float32) for part in parts])


def _up_to(ascending: Floats, values: Floats) -> Rows:
    """How many of the first are at most each of the second."""
    found: Rows = np.searchsorted(ascending, values, side="right").astype(np.int64)
    return found
