"""The relations that the user index knows, as matrices that follow what changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from services.candidate.index.entities import Entities, Placement
from services.candidate.index.sorting import insertion_points
from services.candidate.sources.arrays import NONE, Floats, Mask, Matrix, Rows, sparse

Entries = tuple[Rows, Rows, Floats]
"""Rows, columns and values."""


@dataclass(frozen=True, eq=False)
class Ties:
    """Who follows whom, and who are friends. Actors are the users in their order, then the
    strangers. The indices of both matrices are sorted."""

    strangers: Sequence[str]
    """Whom somebody follows, or followed, who is no user; ascending."""
    follows: Matrix
    """Users × actors: the strength."""
    friends: Matrix
    """Users × actors, symmetric."""

    @property
    def count(self) -> int:
        """Relations as they are stored: a friendship once."""
        return int(self.follows.nnz + self.friends.nnz // 2)

    def lists(self, users: Entities, rows: Rows) -> list[list[str] | None]:
        """Of some users, with whom they are tied: see `models.ties`."""
        found: list[list[str] | None] = []
        for row in rows.tolist():
            if not self._named[row]:
                found.append(None)
                continue
            tied = self._both.indices[slice(*self._both.indptr[row : row + 2])].tolist()
            found.append([users.ids[row], *(self._actor(users, place) for place in tied)])
        return found

    def _actor(self, users: Entities, place: int) -> str:
        count = len(users.ids)
        return users.ids[place] if place < count else self.strangers[place - count]

    @cached_property
    def _both(self) -> Matrix:
        both: Matrix = csr_array(self.follows + self.friends)
        return both

    @cached_property
    def _named(self) -> Mask:
        """Users whom a relation names."""
        found: Mask = np.diff(self._both.indptr) > 0
        followed = self._both.indices[self._both.indices < len(found)]
        found[followed] = True
        return found


@dataclass(frozen=True, eq=False, slots=True)
class NamedTies:
    """Some relations, each once."""

    users: Rows
    targets: Rows
    """NONE for who is no user."""
    strangers: Sequence[str]
    """The names of those, in their order."""
    strengths: Floats
    friends: Mask
    """False: the user follows the target."""


def no_ties(users: int = 0) -> Ties:
    """Of users who have none."""
    none = np.zeros(0, np.int64)
    table = sparse(np.zeros(0, np.float32), none, none, (users, users))
    return Ties([], table, table)


def merge_ties(
    known: Ties, users: Entities, placed: Placement, removed: NamedTies, changed: NamedTies
) -> Ties:
    """`known` with its users where they are now, without those who are gone and what was removed,
    and then with what is new or has another strength. Where nothing of this is, the same."""
    found = known if placed.unmoved else _moved(known, users, placed)
    return put_ties(_without_ties(found, users, removed), users, changed)


def put_ties(known: Ties, users: Entities, changed: NamedTies) -> Ties:
    """With some relations, new or with another strength."""
    if not len(changed.users):
        return known
    if new := set(changed.strangers) - set(known.strangers):
        known = _with_strangers(known, sorted({*known.strangers, *new}))
    one, other = _entries(known, users, changed)
    return Ties(known.strangers, _put(known.follows, *one), _put(known.friends, *other))


def _without_ties(known: Ties, users: Entities, removed: NamedTies) -> Ties:
    if not len(removed.users):
        return known
    one, other = _entries(known, users, removed)
    return Ties(
        known.strangers, _without(known.follows, *one[:2]), _without(known.friends, *other[:2])
    )


def _entries(known: Ties, users: Entities, named: NamedTies) -> tuple[Entries, Entries]:
    """Those of the follows and of the friends, in both directions. What names a user or a target
    that isn't known is left out."""
    actors = {name: len(users.ids) + place for place, name in enumerate(known.strangers)}
    targets = named.targets.copy()
    targets[targets == NONE] = [actors.get(name, NONE) for name in named.strangers]
    there = (named.users != NONE) & (targets != NONE)
    one = np.flatnonzero(there & ~named.friends)
    other = np.flatnonzero(there & named.friends & (targets < len(users.ids)))
    return (
        (named.users[one], targets[one], named.strengths[one]),
        (
            np.concatenate([named.users[other], targets[other]]),
            np.concatenate([targets[other], named.users[other]]),
            np.tile(named.strengths[other], 2),
        ),
    )


def _moved(known: Ties, users: Entities, placed: Placement) -> Ties:
    strangers = [name for name in known.strangers if name not in users.rows]
    rows = {name: len(users.ids) + place for place, name in enumerate(strangers)}
    others = [
        row if (row := rows.get(name)) is not None else users.rows[name] for name in known.strangers
    ]
    columns = np.concatenate([placed.after, np.array(others, np.int64)])
    width = len(users.ids) + len(strangers)
    return Ties(
        strangers,
        _replaced(known.follows, placed.before, columns, width),
        _replaced(known.friends, placed.before, columns, width),
    )


def _with_strangers(known: Ties, strangers: Sequence[str]) -> Ties:
    users = known.follows.shape[0]
    rows = {name: users + place for place, name in enumerate(strangers)}
    moved = [rows[name] for name in known.strangers]
    columns = np.concatenate([np.arange(users), np.array(moved, np.int64)])
    kept, width = np.arange(users), users + len(strangers)
    return Ties(
        strangers,
        _replaced(known.follows, kept, columns, width),
        _replaced(known.friends, kept, columns, width),
    )


def _replaced(table: Matrix, before: Rows, columns: Rows, width: int) -> Matrix:
    """With its rows in another place (`before`: by new row the row before, or NONE; ascending) and
    its columns too (by column before; NONE: left out)."""
    lengths = np.diff(table.indptr)
    counts = np.where(before == NONE, 0, lengths[before]) if len(lengths) else np.zeros(len(before))
    gone = np.ones(len(lengths), np.bool_)
    gone[before[before != NONE]] = False
    indices: Rows = table.indices.astype(np.int64)
    data = table.data
    if gone.any():
        stays = np.repeat(~gone, lengths)
        indices, data = indices[stays], data[stays]
    indices = columns[indices]
    ends = np.append(0, np.cumsum(counts, dtype=np.int64))
    if (indices == NONE).any():
        there = indices != NONE
        ends = np.append(0, np.cumsum(there))[ends]
        indices, data = indices[there], data[there]
    entries: Any = (data, indices, ends)
    found: Matrix = csr_array(entries, shape=(len(before), width))
    found.sort_indices()
    return found


def _put(table: Matrix, rows: Rows, columns: Rows, values: Floats) -> Matrix:
    """With some entries, each named once, new or replaced."""
    if not len(rows):
        return table
    if not table.nnz:
        return sparse(values, rows, columns, table.shape)
    order = np.lexsort((columns, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    points, there = _places(table, rows, columns)
    data = table.data.copy()
    data[points[there]] = values[there]
    new = ~there
    grown = np.append(0, np.cumsum(np.bincount(rows[new], minlength=table.shape[0])))
    entries: Any = (
        np.insert(data, points[new], values[new]),
        np.insert(table.indices, points[new], columns[new]),
        table.indptr + grown,
    )
    found: Matrix = csr_array(entries, shape=table.shape)
    return found


def _without(table: Matrix, rows: Rows, columns: Rows) -> Matrix:
    """Without some entries; those that it doesn't have don't matter."""
    points, there = _places(table, rows, columns)
    if not there.any():
        return table
    shrunk = np.append(0, np.cumsum(np.bincount(rows[there], minlength=table.shape[0])))
    entries: Any = (
        np.delete(table.data, points[there]),
        np.delete(table.indices, points[there]),
        table.indptr - shrunk,
    )
    found: Matrix = csr_array(entries, shape=table.shape)
    return found


def _places(table: Matrix, rows: Rows, columns: Rows) -> tuple[Rows, Mask]:
    """Where entries are or belong among the stored ones, and which are there."""
    begins, ends = table.indptr[rows].astype(np.int64), table.indptr[rows + 1].astype(np.int64)
    points = insertion_points([table.indices], [columns], begins, ends)
    there = np.zeros(len(rows), np.bool_)
    inside = np.flatnonzero(points < ends)
    there[inside] = table.indices[points[inside]] == columns[inside]
    return points, there
