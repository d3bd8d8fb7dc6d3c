"""Answers to recommendation questions: scores from the user index, chosen, ordered and paged."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from services.candidate import recommend
from services.candidate.index import IndexState, UserIndex
from services.candidate.pool import unknown_user
from services.candidate.sources.arrays import Floats, Rows, best
from services.runtime.errors import FailedPrecondition, NotFound


@dataclass(frozen=True, slots=True)
class Choice:
    """How to choose."""

    count: int = 100
    min_relevance: float = 0.0
    include_interacted: bool = False


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


class Audiences:
    """Asks the user index. What it doesn't know yet makes it look for changes once."""

    def __init__(self, index: UserIndex) -> None:
        self._index = index

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
        return await asyncio.to_thread(_users_for_item, state, row, choice, after)

    async def items_for_user(self, user_id: str, choice: Choice) -> Audience:
        """Items for a user. Raises NotFound."""
        state, row = await self._user(user_id)
        return await asyncio.to_thread(_items_for_user, state, row, choice)

    async def users_like_user(self, user_id: str, choice: Choice, *, reciprocal: bool) -> Audience:
        """Users alike to a user. Raises NotFound."""
        state, row = await self._user(user_id)
        return await asyncio.to_thread(_users_like_user, state, row, choice, reciprocal)

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

    async def _user(self, user_id: str) -> tuple[IndexState, int]:
        state = await self._state_with(lambda state: user_id in state.catalogue.user_rows)
        row = state.catalogue.user_rows.get(user_id)
        if row is None:
            raise unknown_user(user_id)
        return state, row

    async def _state_with(self, holds: Callable[[IndexState], bool]) -> IndexState:
        state = self._index.state
        return state if holds(state) else await self._index.refresh()


def _users_for_item(state: IndexState, item: int, choice: Choice, after: Place | None) -> Audience:
    catalogue, factors = state.catalogue, state.factors
    scores = recommend.users_for_item(
        catalogue, factors, item, include_interacted=choice.include_interacted
    )
    if after is not None:
        _hide_before(scores, catalogue.user_ids, after)
    rows, more = _chosen(scores, choice)
    return _audience(
        catalogue.user_ids,
        scores,
        rows,
        catalogue.user_counts,
        warm=bool(factors.warm_items[item]),
        subject_count=int(catalogue.item_counts[item]),
        more=more,
    )


def _items_for_user(state: IndexState, user: int, choice: Choice) -> Audience:
    catalogue, factors = state.catalogue, state.factors
    scores = recommend.items_for_user(
        catalogue, factors, user, include_interacted=choice.include_interacted
    )
    rows, _ = _chosen(scores, choice)
    return _audience(
        catalogue.item_ids,
        scores,
        rows,
        catalogue.item_counts,
        warm=bool(factors.warm_users[user]),
        subject_count=int(catalogue.user_counts[user]),
    )


def _users_like_user(state: IndexState, user: int, choice: Choice, reciprocal: bool) -> Audience:
    catalogue, factors = state.catalogue, state.factors
    warm = bool(factors.warm_users[user])
    scores = recommend.users_like_user(catalogue, factors, user)
    if reciprocal and warm:
        scores = recommend.reciprocal(factors, user, scores, choice.count)
    rows, _ = _chosen(scores, choice)
    return _audience(catalogue.user_ids, scores, rows, catalogue.user_counts, warm=warm)


def _items_for_segment(state: IndexState, users: Rows, choice: Choice) -> Audience:
    catalogue, factors = state.catalogue, state.factors
    scores = recommend.items_for_segment(
        catalogue, factors, users, include_interacted=choice.include_interacted
    )
    rows, _ = _chosen(scores, choice)
    return _audience(
        catalogue.item_ids,
        scores,
        rows,
        catalogue.item_counts,
        warm=bool(factors.warm_users[users].any()),
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


def _chosen(scores: Floats, choice: Choice) -> tuple[Rows, bool]:
    """Rows of the best, and whether there are more."""
    if choice.min_relevance > 0:
        scores[scores < choice.min_relevance] = -np.inf
    rows = best(scores, choice.count + 1)
    return rows[: choice.count], len(rows) > choice.count


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
