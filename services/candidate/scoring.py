"""From a question to the relevance of every user or item: where the user index is asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.candidate import recommend
from services.candidate.expressions import Columns
from services.candidate.index import IndexState
from services.candidate.questions import NewItem
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
    complete: bool = True
    """False: rows that can't be among the best so many are −inf, too."""


def user_table(state: IndexState) -> Table:
    """The users."""
    return Table(state.catalogue.user_ids, state.catalogue.user_counts, state.user_columns)


def item_table(state: IndexState) -> Table:
    """The items."""
    return Table(state.catalogue.item_ids, state.catalogue.item_counts, state.item_columns)


def users_for_item(state: IndexState, item: int, *, include_interacted: bool) -> Scored:
    """Users for a stored item, by its row."""
    scores = recommend.users_for_item(
        state.catalogue, state.prediction, item, include_interacted=include_interacted
    )
    warm = bool(state.catalogue.item_likes[item])
    return Scored(scores, warm, int(state.catalogue.item_counts[item]))


def users_for_new_item(state: IndexState, item: NewItem) -> Scored:
    """Users for an item that is not stored."""
    return Scored(state.prediction.users_for_content(item.attributes, item.text), warm=False)


def items_for_user(state: IndexState, user: int, *, include_interacted: bool) -> Scored:
    """Items for a user."""
    scores = recommend.items_for_user(
        state.catalogue, state.prediction, user, include_interacted=include_interacted
    )
    warm = bool(state.catalogue.user_likes[user])
    return Scored(scores, warm, int(state.catalogue.user_counts[user]))


def users_like_user(state: IndexState, user: int, *, most: int | None) -> Scored:
    """Users alike to a user; with `most`, the best so many by the smaller of the two directions'
    ranks."""
    tastes = state.prediction.user_tastes
    scores = recommend.users_like_user(state.catalogue, tastes, user)
    warm = bool(state.catalogue.user_likes[user])
    if most is not None and tastes[user].any():
        scores = recommend.reciprocal(state.catalogue, tastes, user, scores, most)
    complete = most is None or most >= len(scores)
    return Scored(scores, warm, int(state.catalogue.user_counts[user]), complete=complete)


def items_for_segment(
    state: IndexState, users: Rows, group_size: int, *, include_interacted: bool
) -> Scored:
    """Items for a group of `group_size`, of whom the rows `users` are asked."""
    scores = recommend.items_for_segment(
        state.catalogue, state.prediction, users, include_interacted=include_interacted
    )
    warm = bool(state.catalogue.user_likes[users].any())
    return Scored(scores, warm, int(state.catalogue.user_counts[users].sum()), group_size)
