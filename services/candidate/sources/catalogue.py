"""What the sources know: users, items and the sum of their interactions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from services.candidate.sources.arrays import Floats, Mask, Matrix, Rows, Times, sparse

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
        shape = (len(user_ids), len(item_ids))
        return cls(
            user_ids=user_ids,
            item_ids=item_ids,
            weights=sparse(values, users, items, shape),
            item_created=_times(item_created, len(item_ids)),
            item_live=np.ones(len(item_ids), np.bool_)
            if item_live is None
            else np.asarray(item_live, dtype=np.bool_),
            latest=_latest(users * len(item_ids) + items, interaction_times),
        )

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
        owners = np.repeat(np.arange(len(self.user_ids)), np.diff(self.weights.indptr))
        np.maximum.at(last, owners, self.latest)
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
        return np.diff(self.by_item.indptr).astype(np.int64)

    @cached_property
    def user_likes(self) -> Rows:
        """How many items each user likes (weight above 0)."""
        return np.asarray((self.weights > 0).sum(axis=1), dtype=np.int64).ravel()

    @cached_property
    def item_likes(self) -> Rows:
        """How many users like each item (weight above 0)."""
        return np.asarray((self.weights > 0).sum(axis=0), dtype=np.int64).ravel()

    @cached_property
    def activity(self) -> Floats:
        """Share of each user's likes in those of the user who likes most, in [0, 1]."""
        shares: Floats = (self.user_likes / max(self.user_likes.max(initial=0), 1)).astype(
            np.float32
        )
        return shares


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


def _latest(pairs: Rows, times: Times | None) -> Times:
    """The latest time of each pair (user row × items + item row), in the order of the pairs."""
    if times is None:
        return np.full(len(np.unique(pairs)), NEVER)
    order = np.lexsort((times, pairs))
    last = np.append(np.diff(pairs[order]) != 0, True)[: len(order)]
    latest: Times = times.astype("datetime64[us]")[order[last]]
    return latest


def _times(moments: Sequence[datetime] | Times | None, count: int) -> Times:
    if moments is None:
        return np.full(count, NEVER)
    if isinstance(moments, np.ndarray):
        return moments
    return np.array([utc_microseconds(moment) for moment in moments], "datetime64[us]")
