"""Answers to recommendation questions: relevance, judged, chosen, a page at a time."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from services.candidate import scoring
from services.candidate.answering import Question, answered, estimated
from services.candidate.criteria import CriteriaReader, wrong_expression
from services.candidate.expressions import ExpressionError, compile_filter
from services.candidate.index import IndexState, IndexView
from services.candidate.match_part import MatchPart
from services.candidate.matching import match
from services.candidate.pool import unknown_user
from services.candidate.questions import (
    Audience,
    Choice,
    Direction,
    Estimate,
    NewItem,
    Page,
    Subject,
)
from services.candidate.scoring import Scored, UserSearch
from services.candidate.sources.arrays import Rows
from services.runtime.errors import FailedPrecondition, NotFound

MOST_ASKED = 10_000
"""Users of a group who are asked at most."""


class Audiences:
    """Asks the user index. What it doesn't know yet makes it look for changes once."""

    def __init__(self, index: IndexView, criteria: CriteriaReader) -> None:
        self._index = index
        self._criteria = criteria

    async def users_for_item(self, item_id: str, choice: Choice, page: Page) -> Audience:
        """Users for a stored item. Raises NotFound, and FailedPrecondition for a deleted one."""
        return await _answer(await self._item_question(item_id, choice, page), choice, page)

    async def users_for_new_item(self, item: NewItem, choice: Choice, page: Page) -> Audience:
        """Users for an item that is not stored."""
        return await _answer(await self._new_item_question(item, choice, page), choice, page)

    async def estimate(self, item_id: str, choice: Choice, page: Page) -> Estimate:
        """How many users a stored item may interest. Raises as `users_for_item`."""
        question = await self._item_question(item_id, choice, page)
        return await asyncio.to_thread(estimated, question)

    async def estimate_new(self, item: NewItem, choice: Choice, page: Page) -> Estimate:
        """How many users an item that is not stored may interest."""
        question = await self._new_item_question(item, choice, page)
        return await asyncio.to_thread(estimated, question)

    async def items_for_user(self, user_id: str, choice: Choice, page: Page) -> Audience:
        """Items for a user. Raises NotFound."""
        state, row = await self._user(user_id)
        subject = Subject(Direction.ITEMS_TO_USER, user_id)

        def score() -> Scored:
            return scoring.items_for_user(state, row, include_interacted=choice.include_interacted)

        table = scoring.item_table(state)
        criteria = await self._criteria.read(state, subject, table, choice, page)
        horizon = state.prediction.horizon
        return await _answer(Question(subject, table, criteria, score, horizon), choice, page)

    async def users_like_user(
        self, user_id: str, choice: Choice, page: Page, *, reciprocal: bool
    ) -> Audience:
        """Users alike to a user. Raises NotFound. Of whom nothing is known is not matched: then
        activity speaks."""
        state, row = await self._user(user_id)
        subject, table = Subject(Direction.USERS_TO_USER, user_id), scoring.user_table(state)
        criteria = await self._criteria.read(state, subject, table, choice, page)
        taste, known = state.prediction.user_tastes[row], state.catalogue
        if reciprocal and taste.any():
            found = await match([MatchPart(state, user_id, taste, criteria)], taste, choice, page)
            warm, count = bool(known.user_likes[row]), int(known.user_counts[row])
            return replace(found, warm=warm, subject_count=count)

        def score() -> Scored:
            return scoring.users_like_user(state, row)

        return await _answer(Question(subject, table, criteria, score), choice, page)

    async def items_for_segment(
        self, user_ids: Sequence[str], segment_filter: str, choice: Choice, page: Page
    ) -> Audience:
        """Items for the users named, or those that match. Raises NotFound when none of the users is
        known, FailedPrecondition when none matches."""
        if user_ids:
            state, rows = await self._users(user_ids)
        else:
            state = self._index.state
            rows = await self._matching(state, segment_filter, page)
        name = segment_filter or "\0".join(sorted(set(user_ids)))
        subject = Subject(Direction.ITEMS_TO_SEGMENT, blake2b(name.encode()).hexdigest()[:32])
        places = np.linspace(0, len(rows) - 1, min(len(rows), MOST_ASKED)).astype(np.int64)

        def score() -> Scored:
            return scoring.items_for_segment(
                state, rows[places], len(rows), include_interacted=choice.include_interacted
            )

        table = scoring.item_table(state)
        criteria = await self._criteria.read(state, subject, table, choice, page)
        horizon = state.prediction.horizon
        return await _answer(Question(subject, table, criteria, score, horizon), choice, page)

    async def _item_question(self, item_id: str, choice: Choice, page: Page) -> Question:
        state = await self._state_with(lambda state: item_id in state.catalogue.item_rows)
        row = state.catalogue.item_rows.get(item_id)
        if row is None:
            raise NotFound(f"item {item_id!r} is unknown", reason="UNKNOWN_ITEM")
        if not state.catalogue.item_live[row]:
            raise FailedPrecondition(f"item {item_id!r} is deleted", reason="ITEM_DELETED")
        subject = Subject(Direction.USERS_TO_ITEM, item_id)

        def search() -> UserSearch:
            return scoring.users_for_item(state, row, include_interacted=choice.include_interacted)

        table = scoring.user_table(state)
        criteria = await self._criteria.read(state, subject, table, choice, page)
        return Question(subject, table, criteria, search, state.prediction.horizon)

    async def _new_item_question(self, item: NewItem, choice: Choice, page: Page) -> Question:
        state = await self._state_with(lambda state: state.fit is not None)
        subject = Subject(Direction.USERS_TO_ITEM, item.item_id)
        table = scoring.user_table(state)

        def search() -> UserSearch:
            return scoring.users_for_new_item(state, item)

        criteria = await self._criteria.read(state, subject, table, choice, page)
        return Question(subject, table, criteria, search, state.prediction.horizon)

    async def _matching(self, state: IndexState, text: str, page: Page) -> Rows:
        try:
            program = compile_filter(text, state.user_columns.schema)
        except ExpressionError as error:
            raise wrong_expression("segment_filter", str(error)) from error
        found = await asyncio.to_thread(program.evaluate, state.user_columns, page.moment)
        if not found.matches.any():
            message = "no user matches segment_filter"
            raise FailedPrecondition(message, reason="EMPTY_SEGMENT")
        return np.flatnonzero(found.matches)

    async def _users(self, user_ids: Sequence[str]) -> tuple[IndexState, Rows]:
        state = await self._state_with(
            lambda state: all(name in state.catalogue.user_rows for name in user_ids)
        )
        known = state.catalogue.user_rows
        rows = np.array(sorted({known[name] for name in user_ids if name in known}), np.int64)
        if not len(rows):
            raise NotFound("none of the users is known", reason="UNKNOWN_USER")
        return state, rows

    async def _user(self, user_id: str) -> tuple[IndexState, int]:
        state = await self._state_with(lambda state: user_id in state.catalogue.user_rows)
        row = state.catalogue.user_rows.get(user_id)
        if row is None:
            raise unknown_user(user_id)
        return state, row

    async def _state_with(self, holds: Callable[[IndexState], bool]) -> IndexState:
        state = self._index.state
        return state if holds(state) else await self._index.refresh()


async def _answer(question: Question, choice: Choice, page: Page) -> Audience:
    return await asyncio.to_thread(answered, question, choice, page)
