"""What the sources know: users, items and the sum of their interactions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from services.candidate.sources.arrays import Floats, Mask, Matrix, Rows, Times, changes

NEVER = np.datetime64("1970-01-01T00:00:00", "us")


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Users, items and interactions at one moment. Rows are positions in the id lists."""

    user_ids: Sequence[str]
    item_ids: Sequence[str]
    weights: Matrix
    """Users × items: the sum of the weights of a pair's interactions; stored zeros count as
    interacted. Positive likes, negative dislikes."""
    item_created: Times
    """When each item came to be, UTC in microseconds."""
    item_live: Mask
    """False for items that must not be recommended any more."""
    latest: Times
    """When each stored pair of `weights` interacted last, aligned with its data; NEVER: not
    known."""

    @classmethod
    def build(
        cls,
        user_ids: Sequence[str],
        item_ids: Sequence[str],
        interaction_users: Sequence[str] | Rows,
        interaction_items: Sequence[str] | Rows,
        interaction_weights: Sequence[float] | npt.NDArray[np.floating],
        *,
        item_created: Sequence[datetime] | Times | None = None,
        item_live: Sequence[bool] | Mask | None = None,
        interaction_times: Times | None = None,
    ) -> Self:
        """Build from interactions by id, or by row where arrays are given.

        `item_created` are aware times, or UTC as an array; without it no item is fresh.
        `interaction_times` are UTC; without them no interaction is recent. Raises ValueError for an
        id that is not in the lists, an id listed twice, or a weight that is not finite.
        """
        users = _rows("user", user_ids, interaction_users)
        items = _rows("item", item_ids, interaction_items)
        values = np.asarray(interaction_weights, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError("interaction weights must be finite")
        order = np.lexsort((items, users))
        return cls.of_sorted(
            user_ids,
            item_ids,
            users[order],
            items[order],
            values[order],
            item_created=_times(item_created, len(item_ids)),
            item_live=np.ones(len(item_ids), np.bool_)
            if item_live is None
            else np.asarray(item_live, dtype=np.bool_),
            times=None
            if interaction_times is None
            else interaction_times.astype("datetime64[us]")[order],
        )

    @classmethod
    def of_sorted(
        cls,
        user_ids: Sequence[str],
        item_ids: Sequence[str],
        users: Rows,
        items: Rows,
        weights: Floats,
        *,
        item_created: Times,
        item_live: Mask,
        times: Times | None,
    ) -> Self:
        """Build from interactions by row that are sorted by user and item; nothing is checked.
        Time and memory are linear, without sorting."""
        first = np.flatnonzero(changes(users, items))
        ends = np.append(0, np.cumsum(np.bincount(users[first], minlength=len(user_ids))))
        summed = np.add.reduceat(weights, first) if len(first) else weights[:0]
        latest = np.full(len(first), NEVER)
        if times is not None and len(first):
            latest = np.maximum.reduceat(times, first)
        entries: Any = (summed, items[first], ends)
        pairs: Matrix = csr_array(entries, shape=(len(user_ids), len(item_ids)))
        return cls(user_ids, item_ids, pairs, item_created, item_live, latest)

    def derive(self) -> None:
        """Make what questions and sources look at, so that none of them waits for it."""
        _ = self.by_item, self.user_likes, self.item_likes

    @cached_property
    def user_rows(self) -> Mapping[str, int]:
        """Row by user id."""
        return {name: row for row, name in enumerate(self.user_ids)}

    @cached_property
    def item_rows(self) -> Mapping[str, int]:
        """Row by item id."""
        return {name: row for row, name in enumerate(self.item_ids)}

    @cached_property
    def last_interaction(self) -> Times:
        """When each user interacted last; NEVER where that is not known."""
        last = np.full(len(self.user_ids), NEVER)
        there = np.flatnonzero(self.user_counts)
        if len(there):
            last[there] = np.maximum.reduceat(self.latest, self.weights.indptr[there])
        return last

    @cached_property
    def by_item(self) -> Matrix:
        """The interactions by item: items × users."""
        return csr_array(self.weights.T.tocsr())

    @cached_property
    def user_counts(self) -> Rows:
        """How many items each user has interacted with."""
        return np.diff(self.weights.indptr).astype(np.int64)

    @cached_property
    def item_counts(self) -> Rows:
        """How many users have interacted with each item."""
        return np.bincount(self.weights.indices, minlength=len(self.item_ids))

    @cached_property
    def user_likes(self) -> Rows:
        """How many items each user likes (weight above 0)."""
        liked = np.append(0, np.cumsum(self.weights.data > 0))
        return np.diff(liked[self.weights.indptr])

    @cached_property
    def item_likes(self) -> Rows:
        """How many users like each item (weight above 0)."""
        liked = self.weights.indices[self.weights.data > 0]
        return np.bincount(liked, minlength=len(self.item_ids))


def utc_microseconds(moment: datetime) -> np.datetime64:
    """NumPy form of an aware time."""
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def _rows(kind: str, ids: Sequence[str], given: Sequence[str] | Rows) -> Rows:
    if len(set(ids)) != len(ids):
        raise ValueError(f"a {kind} id is listed twice")
    if isinstance(given, np.ndarray) and given.dtype.kind in "iu":
        rows = given.astype(np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(ids)):
            raise ValueError(f"an interaction's {kind} row is out of range")
        return rows
    known = {name: row for row, name in enumerate(ids)}
    try:
        return np.fromiter((known[str(name)] for name in given), np.int64, len(given))
    except KeyError as error:
        raise ValueError(f"an interaction names the unknown {kind} {error.args[0]!r}") from None


def _times(moments: Sequence[datetime] | Times | None, count: int) -> Times:
    if moments is None:
        return np.full(count, NEVER)
    if isinstance(moments, np.ndarray):
        return moments
    return np.array([utc_microseconds(moment) for moment in moments], "datetime64[us]")
