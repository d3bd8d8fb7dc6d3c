"""The users of one state of the index, as a part of those whom a user may match."""

import asyncio

import numpy as np

from services.candidate import recommend, scoring
from services.candidate.choosing import group_labels
from services.candidate.criteria import Criteria
from services.candidate.index import IndexState
from services.candidate.matching import rank
from services.candidate.questions import Audience, Direction, Found, Subject
from services.candidate.sources.arrays import Floats, Rows, best


class MatchPart:
    """See `Part`. One question is asked in the order of its calls."""

    def __init__(self, state: IndexState, user_id: str, taste: Floats, criteria: Criteria) -> None:
        """`taste`: the user's, whom the state needn't know; not 0."""
        self._state = state
        self._user_id = user_id
        self._taste = taste
        self._criteria = criteria
        self._nearest: Rows
        """Rows by their cosine, ascending."""
        self._candidates: Rows

    async def cosines(self) -> Floats:
        """See `Part`."""
        return await asyncio.to_thread(self._cosines)

    async def candidates(self, nearer: Rows, others: int, most: int) -> Found:
        """See `Part`."""
        return await asyncio.to_thread(self._found, nearer, others, most)

    async def tastes(self, places: Rows) -> Floats:
        """See `Part`."""
        return recommend.units(self._state.prediction.user_tastes[self._candidates[places]])

    async def count_nearer(self, tastes: Floats, least: Floats) -> Rows:
        """See `Part`."""
        state = self._state
        return await asyncio.to_thread(
            recommend.count_nearer, state.catalogue, state.prediction.user_tastes, tastes, least
        )

    async def scores(self, places: Rows, relevance: Floats) -> Floats:
        """See `Part`."""
        return await asyncio.to_thread(self._scores, places, relevance)

    def _cosines(self) -> Floats:
        catalogue = self._state.catalogue
        found = recommend.cosines(self._state.prediction.user_tastes, self._taste)
        found[catalogue.user_likes == 0] = np.inf
        if (row := catalogue.user_rows.get(self._user_id)) is not None:
            found[row] = np.inf
        order = np.argsort(found)
        self._nearest = order[: np.count_nonzero(found < np.inf)]
        ascending: Floats = found[self._nearest]
        return ascending

    def _found(self, nearer: Rows, others: int, most: int) -> Found:
        table, criteria = scoring.user_table(self._state), self._criteria
        ranks = np.full(len(table.ids), -np.inf, np.float32)
        ranks[self._nearest] = rank(nearer, others)
        judged = criteria.judge.judge(np.arange(len(ranks)), ranks)
        rows = self._candidates = best(judged.scores, most)
        audience = Audience(
            subject=Subject(Direction.USERS_TO_USER, self._user_id),
            ids=[table.ids[row] for row in rows.tolist()],
            scores=judged.scores[rows].tolist(),
            relevance=ranks[rows].tolist(),
            counts=table.counts[rows].tolist(),
            warm=False,
            subject_count=0,
            omissions=judged.omissions,
            budget=criteria.budget,
        )
        if criteria.spread is None:
            return Found(audience)
        return Found(audience, group_labels(table.columns, criteria.spread.attribute, rows))

    def _scores(self, places: Rows, relevance: Floats) -> Floats:
        rows = self._candidates[places]
        order = np.argsort(rows)
        found = np.empty_like(relevance)
        found[order] = self._criteria.judge.judge(rows[order], relevance[order]).scores
        return found
