"""All that the user index knows of users, items and interactions, as it was read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from services.candidate.expressions import Columns
from services.candidate.expressions.columns import TextColumn
from services.candidate.index.entities import Entities, Placement
from services.candidate.index.sorting import insertion_points
from services.candidate.index.ties import Ties, no_ties
from services.candidate.models import Interactions
from services.candidate.sources import Catalogue, Relations
from services.candidate.sources.arrays import NONE, Mask, Rows, Times
from services.candidate.sources.catalogue import NEVER
from services.candidate.text import DIMENSIONS

NOBODY = Entities([], Columns(0, {}, {}, {}, "user"))
NO_ITEMS = Entities([], Columns(0, {}, {}, {}, "item"))

CREATOR = "creator"
"""Attribute of an item that names whose followers are told of it."""


@dataclass(frozen=True, eq=False, slots=True)
class Tables:
    """Rows of users and items are positions in their ids."""

    users: Entities
    items: Entities
    user_created: Times
    """By row, UTC in microseconds."""
    item_created: Times
    item_live: Mask
    """By row; False for items that must not be recommended any more."""
    item_texts: npt.NDArray[np.float16]
    """By row: vectors of the items' texts, of length 1; 0 where there is none yet."""
    interactions: Interactions
    """Sorted by user, item and time."""
    ties: Ties

    @classmethod
    def empty(cls) -> "Tables":
        """Nothing is known."""
        nothing = np.zeros(0, "datetime64[us]")
        return cls(
            NOBODY,
            NO_ITEMS,
            nothing,
            nothing,
            np.zeros(0, np.bool_),
            np.zeros((0, DIMENSIONS), np.float16),
            no_interactions([], []),
            no_ties(),
        )

    @classmethod
    def of(cls, interactions: Interactions, created: Times, live: Mask) -> "Tables":
        """From interactions alone; nobody has attributes, texts or relations."""
        users, items = (
            Entities(ids, Columns(len(ids), {}, {}, {}, owner))
            for owner, ids in (("user", interactions.user_ids), ("item", interactions.item_ids))
        )
        never = np.full(len(users.ids), NEVER)
        texts = np.zeros((len(items.ids), DIMENSIONS), np.float16)
        ties = no_ties(len(users.ids))
        return cls(users, items, never, created, live, texts, in_order(interactions), ties)

    def catalogue(self) -> Catalogue:
        """What the sources ask."""
        pairs = self.interactions
        assert pairs.times is not None
        catalogue = Catalogue.of_sorted(
            self.users.ids,
            self.items.ids,
            pairs.users,
            pairs.items,
            pairs.weights,
            item_created=self.item_created,
            item_live=self.item_live,
            times=NEVER + (pairs.times * 1e6).astype("timedelta64[us]"),
        )
        catalogue.__dict__.update(user_rows=self.users.rows, item_rows=self.items.rows)
        return catalogue

    def relations(self) -> Relations:
        """Whom users follow, their friends, and who made the items."""
        ties = self.ties
        actors = [*self.users.ids, *ties.strangers] if ties.strangers else self.users.ids
        return Relations(actors, ties.follows, ties.friends, self._creators())

    def _creators(self) -> Rows:
        """The actor who made each item; NONE where it names none."""
        names = self.items.columns.columns.get(CREATOR)
        if not isinstance(names, TextColumn):
            return np.full(len(self.items.ids), NONE, np.int64)
        strangers = {
            name: len(self.users.ids) + place for place, name in enumerate(self.ties.strangers)
        }
        texts: list[Any] = names.vocabulary[:-1].to_pylist()
        found = [self.users.rows.get(name, strangers.get(name, NONE)) for name in texts]
        return np.array([*found, NONE], np.int64)[names.codes]


def no_interactions(user_ids: Sequence[str], item_ids: Sequence[str]) -> Interactions:
    """None yet, of these users with these items."""
    rows = np.zeros(0, np.int64)
    return Interactions(user_ids, item_ids, rows, rows, np.zeros(0), np.zeros(0, np.float32))


def in_order(found: Interactions) -> Interactions:
    """Sorted by user, item and time."""
    assert found.times is not None
    return found.take(np.lexsort((found.times, found.items, found.users)))


def joined(parts: Sequence[Interactions]) -> Interactions:
    """Interactions of the same users with the same items, one part behind the other."""
    times = [part.times for part in parts if part.times is not None]
    return Interactions(
        parts[0].user_ids,
        parts[0].item_ids,
        np.concatenate([part.users for part in parts]),
        np.concatenate([part.items for part in parts]),
        np.concatenate(times),
        np.concatenate([part.weights for part in parts]),
    )


def merge_interactions(
    known: Interactions,
    newer: Interactions,
    users: Placement,
    items: Placement,
) -> Interactions:
    """`known`, its rows moved, without those of users who are gone, and what is `newer` (in any
    order), by the new rows: sorted by user, item and time, as `known` is. Only what is newer is
    sorted."""
    same = newer.user_ids is known.user_ids and newer.item_ids is known.item_ids
    if not len(newer) and same and users.unmoved and items.unmoved:
        return known
    newer, moved = in_order(newer), _moved(known, users, items)
    assert newer.times is not None
    assert moved.times is not None
    points = insertion_points(
        [moved.users, moved.items, moved.times],
        [newer.users, newer.items, newer.times],
        np.zeros(len(newer), np.int64),
        np.full(len(newer), len(moved)),
    )
    return Interactions(
        newer.user_ids,
        newer.item_ids,
        np.insert(moved.users, points, newer.users),
        np.insert(moved.items, points, newer.items),
        np.insert(moved.times, points, newer.times),
        np.insert(moved.weights, points, newer.weights),
    )


def _moved(known: Interactions, users: Placement, items: Placement) -> Interactions:
    """By the new rows, which keep the order."""
    if users.unmoved and items.unmoved:
        return known
    rows, columns = users.after[known.users], items.after[known.items]
    kept = (rows != NONE) & (columns != NONE)
    if kept.all():
        return replace(known, users=rows, items=columns)
    return replace(known.take(kept), users=rows[kept], items=columns[kept])
