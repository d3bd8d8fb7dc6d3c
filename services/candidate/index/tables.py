"""All that the user index knows of users, items and interactions, as it was read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from services.candidate.catalogue_store import RelationKind
from services.candidate.expressions import Columns
from services.candidate.index.entities import Entities, Placement
from services.candidate.models import Interactions
from services.candidate.sources import Catalogue, Relations
from services.candidate.sources.arrays import NONE, Mask, Times
from services.candidate.sources.catalogue import NEVER
from services.candidate.sources.relations import NO_TIES, Ties
from services.candidate.text import DIMENSIONS

NOBODY = Entities([], Columns(0, {}, {}, {}, "user"))
NO_ITEMS = Entities([], Columns(0, {}, {}, {}, "item"))

NO_RELATIONS: Mapping[RelationKind, Ties] = dict.fromkeys(RelationKind, NO_TIES)
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
    ties: Mapping[RelationKind, Ties]

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
            NO_RELATIONS,
        )

    @classmethod
    def of(cls, interactions: Interactions, created: Times, live: Mask) -> "Tables":
        """From interactions alone; nobody has attributes or texts."""
        users, items = (
            Entities(ids, Columns(len(ids), {}, {}, {}, owner))
            for owner, ids in (("user", interactions.user_ids), ("item", interactions.item_ids))
        )
        never = np.full(len(users.ids), NEVER)
        texts = np.zeros((len(items.ids), DIMENSIONS), np.float16)
        return cls(users, items, never, created, live, texts, interactions, NO_RELATIONS)

    @property
    def outgrown(self) -> bool:
        """Whether attributes may have other types by now: see `Columns.outgrown`."""
        return self.users.columns.outgrown or self.items.columns.outgrown

    def catalogue(self) -> Catalogue:
        """What the sources ask."""
        pairs = self.interactions
        assert pairs.times is not None
        catalogue = Catalogue.build(
            self.users.ids,
            self.items.ids,
            pairs.users,
            pairs.items,
            pairs.weights,
            item_created=self.item_created,
            item_live=self.item_live,
            interaction_times=NEVER + (pairs.times * 1e6).astype("timedelta64[us]"),
        )
        catalogue.__dict__.update(user_rows=self.users.rows, item_rows=self.items.rows)
        return catalogue

    def relations(self, catalogue: Catalogue) -> Relations:
        """Whom users follow, their friends, and who made the items."""
        rows = np.arange(len(self.items.ids))
        creators = self.items.columns.lists(rows).get(CREATOR, [None] * len(rows))
        return Relations.build(
            catalogue,
            self.ties[RelationKind.FOLLOWS],
            self.ties[RelationKind.FRIEND],
            [name if isinstance(name, str) else "" for name in creators],
        )


def no_interactions(user_ids: Sequence[str], item_ids: Sequence[str]) -> Interactions:
    """None yet, of these users with these items."""
    rows = np.zeros(0, np.int64)
    return Interactions(user_ids, item_ids, rows, rows, np.zeros(0), np.zeros(0, np.float32))


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
    """`known`, its rows moved, without those of users who are gone, and what is `newer`, by the new
    rows."""
    if not len(newer) and newer.user_ids is known.user_ids and newer.item_ids is known.item_ids:
        return known
    rows, columns = users.after[known.users], items.after[known.items]
    kept = np.flatnonzero((rows != NONE) & (columns != NONE))
    moved = known.take(kept)
    placed = replace(
        moved,
        user_ids=newer.user_ids,
        item_ids=newer.item_ids,
        users=rows[kept],
        items=columns[kept],
    )
    return joined([placed, newer])
