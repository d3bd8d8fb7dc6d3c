"""Answers to recommendation questions: scores from the user index, chosen, ordered and paged."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import numpy as np

from services.candidate import recommend
from services.candidate.expressions import (
    BoosterProgram,
    Columns,
    ExpressionError,
    FilterProgram,
    Schema,
    compile_booster,
    compile_filter,
)
from services.candidate.index import IndexState, UserIndex
from services.candidate.pool import unknown_user
from services.candidate.sources.arrays import Floats, Rows, best
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, FieldError, InvalidArgument, NotFound

Program = TypeVar("Program")


@dataclass(frozen=True, slots=True)
class Choice:
    """How to choose."""

    count: int = 100
    min_relevance: float = 0.0
    include_interacted: bool = False
    filter: str = ""
    """CEL over the attributes of the users who are to be found; empty: all of them."""
    booster: str = ""
    """CEL; empty: 1."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the next page begins: after this score and user."""

    score: float
    user_id: str


@dataclass(frozen=True, slots=True)
class Audience:
    """Users or items, best first."""

    ids: Sequence[str]
    scores: Sequence[float]
    counts: Sequence[int]
    """Interactions of each."""
    warm: bool
    """Rests on interactions, not only on popularity or activity."""
    subject_count: int = 0
    """Interactions of the item or user asked about; users known, for a group."""
    more: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Wish:
    """A compiled filter and booster, at one moment."""

    columns: Columns
    now: datetime
    filter: FilterProgram | None
    booster: BoosterProgram | None

    def apply(self, scores: Floats, min_relevance: float) -> None:
        """Leave out, by −inf, what is below the least relevance or does not match; boost the
        rest."""
        rows = np.flatnonzero(scores >= max(min_relevance, 0.0))
        if self.filter is not None:
            rows = rows[self.filter.evaluate(self.columns, self.now, rows).matches]
        kept = scores[rows]
        if self.booster is not None:
            kept *= self.booster.evaluate(self.columns, self.now, rows).factors
        scores.fill(-np.inf)
        scores[rows] = kept


class Audiences:
    """Asks the user index. What it doesn't know yet makes it look for changes once."""

    def __init__(self, index: UserIndex, clock: Clock) -> None:
        self._index = index
        self._clock = clock

    async def users_for_item(
        self, item_id: str, choice: Choice, after: Place | None = None
    ) -> Audience:
        """Users for an item. Raises NotFound, and FailedPrecondition for a deleted item."""
        state = await self._state_with(lambda state: item_id in state.catalogue.item_rows)
        row = state.catalogue.item_rows.get(item_id)
        if row is None:
            raise NotFound(f"item {item_id!r} is unknown", reason="UNKNOWN_ITEM")
        if not state.catalogue.item_live[row]:
            raise FailedPrecondition(f"item {item_id!r} is deleted", reason="ITEM_DELETED")
        wish = self._wish(state, choice)
        return await asyncio.to_thread(_users_for_item, state, row, choice, wish, after)

    async def items_for_user(self, user_id: str, choice: Choice) -> Audience:
        """Items for a user. Raises NotFound."""
        state, row = await self._user(user_id)
        return await asyncio.to_thread(_items_for_user, state, row, choice)

    async def users_like_user(self, user_id: str, choice: Choice, *, reciprocal: bool) -> Audience:
        """Users alike to a user. Raises NotFound."""
        state, row = await self._user(user_id)
        wish = self._wish(state, choice)
        return await asyncio.to_thread(_users_like_user, state, row, choice, wish, reciprocal)

    async def items_for_segment(self, user_ids: Sequence[str], choice: Choice) -> Audience:
        """Items for a group. Raises NotFound when none of the users is known."""
        state = await self._state_with(
            lambda state: all(name in state.catalogue.user_rows for name in user_ids)
        )
        known = state.catalogue.user_rows
        rows = np.array(sorted({known[name] for name in user_ids if name in known}), np.int64)
        if not len(rows):
            raise NotFound("none of the users is known", reason="UNKNOWN_USER")
        return await asyncio.to_thread(_items_for_segment, state, rows, choice)

    def _wish(self, state: IndexState, choice: Choice) -> Wish:
        """Raises InvalidArgument with the field and the position of what is wrong."""
        schema = state.columns.schema
        return Wish(
            state.columns,
            self._clock.now(),
            _compiled("filter", choice.filter, compile_filter, schema),
            _compiled("booster", choice.booster, compile_booster, schema),
        )

    async def _user(self, user_id: str) -> tuple[IndexState, int]:
        state = await self._state_with(lambda state: user_id in state.catalogue.user_rows)
        row = state.catalogue.user_rows.get(user_id)
        if row is None:
            raise unknown_user(user_id)
        return state, row

    async def _state_with(self, holds: Callable[[IndexState], bool]) -> IndexState:
        state = self._index.state
        return state if holds(state) else await self._index.refresh()


def _compiled(
    name: str, text: str, compile_text: Callable[[str, Schema], Program], schema: Schema
) -> Program | None:
    if not text:
        return None
    try:
        return compile_text(text, schema)
    except ExpressionError as error:
        fields = [FieldError(f"parameters.{name}", str(error))]
        raise InvalidArgument(str(error), reason="EXPRESSION", fields=fields) from error


def _users_for_item(
    state: IndexState, item: int, choice: Choice, wish: Wish, after: Place | None
) -> Audience:
    catalogue, predictor = state.catalogue, state.prediction
    scores = recommend.users_for_item(
        catalogue, predictor, item, include_interacted=choice.include_interacted
    )
    wish.apply(scores, choice.min_relevance)
    if after is not None:
        _hide_before(scores, catalogue.user_ids, after)
    rows, more = _chosen(scores, choice.count)
    return _audience(
        catalogue.user_ids,
        scores,
        rows,
        catalogue.user_counts,
        warm=bool(catalogue.item_likes[item]),
        subject_count=int(catalogue.item_counts[item]),
        more=more,
    )


def _items_for_user(state: IndexState, user: int, choice: Choice) -> Audience:
    catalogue, predictor = state.catalogue, state.prediction
    scores = recommend.items_for_user(
        catalogue, predictor, user, include_interacted=choice.include_interacted
    )
    scores[scores < choice.min_relevance] = -np.inf
    rows, _ = _chosen(scores, choice.count)
    return _audience(
        catalogue.item_ids,
        scores,
        rows,
        catalogue.item_counts,
        warm=bool(catalogue.user_likes[user]),
        subject_count=int(catalogue.user_counts[user]),
    )


def _users_like_user(
    state: IndexState, user: int, choice: Choice, wish: Wish, reciprocal: bool
) -> Audience:
    catalogue, predictor = state.catalogue, state.prediction
    warm = bool(catalogue.user_likes[user])
    tastes = predictor.user_tastes
    scores = recommend.users_like_user(catalogue, tastes, user)
    if reciprocal and tastes[user].any():
        # All of them where a filter or a booster chooses among them.
        count = len(scores) if wish.filter or wish.booster else choice.count
        scores = recommend.reciprocal(catalogue, tastes, user, scores, count)
    wish.apply(scores, choice.min_relevance)
    rows, _ = _chosen(scores, choice.count)
    return _audience(catalogue.user_ids, scores, rows, catalogue.user_counts, warm=warm)


def _items_for_segment(state: IndexState, users: Rows, choice: Choice) -> Audience:
    catalogue, predictor = state.catalogue, state.prediction
    scores = recommend.items_for_segment(
        catalogue, predictor, users, include_interacted=choice.include_interacted
    )
    scores[scores < choice.min_relevance] = -np.inf
    rows, _ = _chosen(scores, choice.count)
    return _audience(
        catalogue.item_ids,
        scores,
        rows,
        catalogue.item_counts,
        warm=bool(catalogue.user_likes[users].any()),
        subject_count=len(users),
    )


def _hide_before(scores: Floats, user_ids: Sequence[str], after: Place) -> None:
    """Hide what earlier pages had: better scores, and equal ones up to the user, in the order of
    ids, which is that of the rows."""
    score = np.float32(after.score)
    scores[scores > score] = -np.inf
    for row in np.flatnonzero(scores == score).tolist():
        if user_ids[row] <= after.user_id:
            scores[row] = -np.inf


def _chosen(scores: Floats, count: int) -> tuple[Rows, bool]:
    """Rows of the best, and whether there are more."""
    rows = best(scores, count + 1)
    return rows[:count], len(rows) > count


def _audience(
    ids: Sequence[str],
    scores: Floats,
    rows: Rows,
    counts: Rows,
    *,
    warm: bool,
    subject_count: int = 0,
    more: bool = False,
) -> Audience:
    return Audience(
        ids=[ids[row] for row in rows],
        scores=scores[rows].tolist(),
        counts=counts[rows].tolist(),
        warm=warm,
        subject_count=subject_count,
        more=more,
    )
