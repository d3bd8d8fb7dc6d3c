"""From a question to the relevance of users or items: where the user index is asked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.candidate import recommend
from services.candidate.attributes import listed, read_item
from services.candidate.expressions import Columns
from services.candidate.index import IndexState
from services.candidate.index.prediction import VectorQuery
from services.candidate.questions import NewItem
from services.candidate.retrieval import NOTHING, Best, Float32, all_scores, top
from services.candidate.retrieval_judging import SearchJudge
from services.candidate.sources.arrays import Floats, Rows


@dataclass(frozen=True, eq=False, slots=True)
class Table:
    """The users or the items of a state of the index, by row; rows are in the order of ids."""

    ids: Sequence[str]
    counts: Rows
    """Interactions of each."""
    columns: Columns
    """Attributes."""


@dataclass(frozen=True, eq=False, slots=True)
class Scored:
    """What a question found."""

    relevance: Floats
    """Of each row of the table, in [0, 1]; −inf for what must not be returned."""
    warm: bool
    """Rests on interactions of what was asked about."""
    subject_count: int = 0
    """Interactions of what was asked about."""
    group_size: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class UserSearch:
    """Users for an item: all of them scored, or only the best found."""

    query: VectorQuery
    excluded: Rows
    """Who must not be returned, ascending."""
    warm: bool
    """As in Scored."""
    subject_count: int
    group_size: int = 0

    def scored(self) -> Scored:
        """The relevance of everybody."""
        asked = self.query
        scores = all_scores(
            Float32(asked.vectors), asked.query, bias=asked.bias, excluded=self.excluded
        )
        return Scored(asked.relevance(scores), self.warm, self.subject_count)

    def best(self, judge: SearchJudge, count: int) -> Best:
        """The best `count` by what a judge says."""
        asked, table = self.query, Float32(self.query.vectors)
        return top(table, asked.query, count, bias=asked.bias, excluded=self.excluded, judge=judge)


def user_table(state: IndexState) -> Table:
    """The users."""
    return Table(state.catalogue.user_ids, state.catalogue.user_counts, state.user_columns)


def item_table(state: IndexState) -> Table:
    """The items."""
    return Table(state.catalogue.item_ids, state.catalogue.item_counts, state.item_columns)


def users_for_item(state: IndexState, item: int, *, include_interacted: bool) -> UserSearch:
    """Users for a stored item, by its row."""
    catalogue = state.catalogue
    interacted = catalogue.by_item[[item]].indices
    excluded = NOTHING if include_interacted else np.sort(interacted).astype(np.int64)
    query = state.prediction.users_for_item(item)
    warm = bool(catalogue.item_likes[item])
    return UserSearch(query, excluded, warm, int(catalogue.item_counts[item]))


def users_for_new_item(state: IndexState, item: NewItem) -> UserSearch:
    """Users for an item that is not stored."""
    query = state.prediction.users_for_content(listed(read_item(item.body)), item.text)
    return UserSearch(query, NOTHING, warm=False, subject_count=0)


def items_for_user(state: IndexState, user: int, *, include_interacted: bool) -> Scored:
    """Items for a user."""
    scores = recommend.items_for_user(
        state.catalogue, state.prediction, user, include_interacted=include_interacted
    )
    warm = bool(state.catalogue.user_likes[user])
    return Scored(scores, warm, int(state.catalogue.user_counts[user]))


def users_like_user(state: IndexState, user: int) -> Scored:
    """Users alike to a user."""
    catalogue = state.catalogue
    scores = recommend.users_like_user(catalogue, state.prediction.user_tastes, user)
    return Scored(scores, bool(catalogue.user_likes[user]), int(catalogue.user_counts[user]))


def items_for_segment(
    state: IndexState, users: Rows, group_size: int, *, include_interacted: bool
) -> Scored:
    """Items for a group of `group_size`, of whom the rows `users` are asked."""
    scores = recommend.items_for_segment(
        state.catalogue, state.prediction, users, include_interacted=include_interacted
    )
    warm = bool(state.catalogue.user_likes[users].any())
    return Scored(scores, warm, int(state.catalogue.user_counts[users].sum()), group_size)
