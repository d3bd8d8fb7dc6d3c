"""The relations that the user index knows, as matrices that follow what changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from services.candidate.index.entities import Entities, Placement
from services.candidate.index.sorting import insertion_points
from services.candidate.sources.arrays import NONE, Floats, Mask, Matrix, Rows, sparse


@dataclass(frozen=True, eq=False, slots=True)
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


@dataclass(frozen=True, eq=False, slots=True)
class ChangedTies:
    """Relations that are new or have another strength."""

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


def merge_ties(known: Ties, users: Entities, placed: Placement, changed: ChangedTies) -> Ties:
    """`known` with its users where they are now, without those who are gone, and with what changed.
    Where nobody came or went and nothing changed, the same."""
    if placed.unmoved and not len(changed.users):
        return known
    found = known if placed.unmoved else _moved(known, users, placed)
    if new := set(changed.strangers) - set(found.strangers):
        found = _with_strangers(found, sorted({*found.strangers, *new}))
    actors = {name: len(users.ids) + place for place, name in enumerate(found.strangers)}
    targets = changed.targets.copy()
    targets[targets == NONE] = [actors[name] for name in changed.strangers]
    one, other = np.flatnonzero(~changed.friends), np.flatnonzero(changed.friends)
    pairs = np.concatenate([changed.users[other], targets[other]])
    back = np.concatenate([targets[other], changed.users[other]])
    return Ties(
        found.strangers,
        _put(found.follows, changed.users[one], targets[one], changed.strengths[one]),
        _put(found.friends, pairs, back, np.tile(changed.strengths[other], 2)),
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
    begins, ends = table.indptr[rows].astype(np.int64), table.indptr[rows + 1].astype(np.int64)
    points = insertion_points([table.indices], [columns], begins, ends)
    there = (points < ends) & (table.indices[np.minimum(points, table.nnz - 1)] == columns)
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
