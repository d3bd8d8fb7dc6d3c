"""What a shard answers of its own users."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.candidate import recommend, scoring
from services.candidate.answering import Question, answered
from services.candidate.audiences import MOST_ASKED, Audiences
from services.candidate.criteria import CriteriaReader
from services.candidate.index import IndexState
from services.candidate.match_part import MatchPart
from services.candidate.questions import Audience, Choice, Direction, Page, Subject
from services.candidate.recommend import Sums
from services.candidate.scoring import Scored
from services.candidate.shards.view import FixedIndex
from services.candidate.sources.arrays import Floats, Rows
from services.runtime.errors import FailedPrecondition


@dataclass(frozen=True, eq=False, slots=True)
class Taste:
    """A user to whom others are to be like."""

    user_id: str
    vector: Floats
    """0: nothing is known."""
    most_likes: int
    """Likes of who likes most, over all shards."""


@dataclass(frozen=True, eq=False, slots=True)
class GroupSums:
    """What members of a group add to its interest in every item."""

    members: int
    warm: bool
    interactions: int
    """Of those who were asked."""
    totals: Sums
    weights: Sums


class ShardAudiences(Audiences):
    """Audiences of one state of a shard, and what only shards are asked."""

    def __init__(self, state: IndexState, criteria: CriteriaReader) -> None:
        super().__init__(FixedIndex(state), criteria)
        self._state = state

    async def users_alike(self, taste: Taste, choice: Choice, page: Page) -> Audience:
        """Users alike to one whom the shard needn't know."""
        state, table = self._state, scoring.user_table(self._state)
        subject = Subject(Direction.USERS_TO_USER, taste.user_id)
        row = state.catalogue.user_rows.get(taste.user_id)

        def score() -> Scored:
            tastes = state.prediction.user_tastes
            relevance = recommend.users_like_taste(
                state.catalogue, tastes, taste.vector, taste.most_likes
            )
            if row is not None:
                relevance[row] = -np.inf
            return Scored(relevance, warm=False)

        criteria = await self._criteria.read(state, subject, table, choice, page)
        question = Question(subject, table, criteria, score)
        return await asyncio.to_thread(answered, question, choice, page)

    async def match_part(
        self, user_id: str, taste: Floats, choice: Choice, page: Page
    ) -> MatchPart:
        """The shard's users as those whom one may match whom the shard needn't know."""
        state, subject = self._state, Subject(Direction.USERS_TO_USER, user_id)
        table = scoring.user_table(state)
        criteria = await self._criteria.read(state, subject, table, choice, page)
        return MatchPart(state, user_id, taste, criteria)

    async def items_for_group(
        self, relevance: Floats, group: str, choice: Choice, page: Page
    ) -> Audience:
        """Items by a group's interest in them."""
        state, table = self._state, scoring.item_table(self._state)
        subject = Subject(Direction.ITEMS_TO_SEGMENT, group)
        criteria = await self._criteria.read(state, subject, table, choice, page)

        def score() -> Scored:
            return Scored(relevance, warm=False)

        question = Question(subject, table, criteria, score, state.prediction.horizon)
        return await asyncio.to_thread(answered, question, choice, page)

    async def group_sums(
        self, user_ids: Sequence[str], text: str, page: Page, *, include_interacted: bool
    ) -> GroupSums:
        """Sums over the members named, or those that match. Of more than MOST_ASKED a sample
        speaks, evenly spread."""
        state, known = self._state, self._state.catalogue.user_rows
        if user_ids:
            rows = np.array(sorted({known[name] for name in user_ids if name in known}), np.int64)
        else:
            try:
                rows = await self._matching(state, text, page)
            except FailedPrecondition:  # nobody matches here; others may elsewhere
                rows = np.zeros(0, np.int64)
        return await asyncio.to_thread(_summed, state, rows, include_interacted)


def _summed(state: IndexState, rows: Rows, include_interacted: bool) -> GroupSums:
    catalogue = state.catalogue
    places = np.linspace(0, len(rows) - 1, min(len(rows), MOST_ASKED)).astype(np.int64)
    asked = rows[places]
    totals, weights = recommend.segment_sums(
        catalogue, state.prediction, asked, include_interacted=include_interacted
    )
    share = len(rows) / max(len(asked), 1)
    return GroupSums(
        members=len(rows),
        warm=bool(catalogue.user_likes[asked].any()),
        interactions=int(catalogue.user_counts[asked].sum()),
        totals=totals * share,
        weights=weights * share,
    )
