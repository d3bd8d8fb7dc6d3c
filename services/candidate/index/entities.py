"""Users or items by row, and how their rows move when some change, come or go."""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from services.candidate.expressions import Columns, merge_columns
from services.candidate.sources.arrays import NONE, Rows

Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Entities:
    """Users or items."""

    ids: Sequence[str]
    """By row, ascending."""
    columns: Columns
    """Their attributes, by row."""

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row by id."""
        return {name: row for row, name in enumerate(self.ids)}


@dataclass(frozen=True, eq=False, slots=True)
class Placement:
    """How the rows of a new table follow from those of the one before."""

    before: Rows
    """By new row: the row before; NONE for those who are new."""
    source: Rows
    """By new row: the row before, or for those who changed or are new the number of rows before
    plus the place among the changes."""
    count: int
    """Rows before."""

    @property
    def unmoved(self) -> bool:
        """Whether everyone is still where they were, and nobody is new or gone."""
        return self.before is self.source or (
            len(self.before) == self.count and bool((self.before == np.arange(self.count)).all())
        )

    @property
    def after(self) -> Rows:
        """By row before: the new row; NONE for those who are gone."""
        rows = np.full(self.count, NONE, np.int64)
        kept = np.flatnonzero(self.before != NONE)
        rows[self.before[kept]] = kept
        return rows

    def carry(self, values: npt.NDArray[Value], blank: Value | float) -> npt.NDArray[Value]:
        """Values by row before to values by new row, those of who is new blank."""
        found = np.full((len(self.before), *values.shape[1:]), blank, values.dtype)
        kept = np.flatnonzero(self.before != NONE)
        found[kept] = values[self.before[kept]]
        return found

    def lost(self, values: npt.NDArray[Value]) -> npt.NDArray[Value]:
        """Values by row before, of those who are gone."""
        lost: npt.NDArray[Value] = values[self.after == NONE]
        return lost

    def merge(self, known: npt.NDArray[Value], changed: npt.NDArray[Value]) -> npt.NDArray[Value]:
        """Values by row before, and by place among the changes, to values by new row."""
        return np.concatenate([known, changed])[self.source]


def merge_entities(
    known: Entities,
    ids: Sequence[str],
    columns: Columns,
    *,
    new: Collection[str] = (),
    gone: Collection[str] = (),
) -> tuple[Entities, Placement]:
    """`known` with those who changed or are new (`ids`, in any order, with their attributes), and
    without those who are gone. Those in `new` have nothing to do with whom their ids named before.
    Raises ValueError when an attribute's type has changed."""
    if not ids and not gone and columns.types.keys() <= known.columns.types.keys():
        rows = np.arange(len(known.ids))
        return known, Placement(rows, rows, len(rows))
    placed, names = _place(known, ids, new, gone)
    merged = merge_columns(known.columns, columns, placed.source)
    entities = Entities(names, merged)
    if names is known.ids:
        entities.__dict__["rows"] = known.rows
    return entities, placed


def _place(
    known: Entities, ids: Sequence[str], new: Collection[str], gone: Collection[str]
) -> tuple[Placement, Sequence[str]]:
    count = len(known.ids)
    before, source = np.arange(count), np.arange(count)
    added: list[tuple[str, int]] = []
    for place, name in enumerate(ids, count):
        row = known.rows.get(name)
        if row is None:
            added.append((name, place))
            continue
        source[row] = place
        if name in new:
            before[row] = NONE
    added.sort()
    rows = [bisect_left(known.ids, name) for name, _ in added]
    before = np.insert(before, rows, NONE)
    source = np.insert(source, rows, [place for _, place in added])
    names = _inserted(known.ids, rows, [name for name, _ in added]) if added else known.ids
    if gone:
        kept = np.ones(len(names), np.bool_)
        left = sorted(bisect_left(names, name) for name in gone)
        kept[left] = False
        before, source, names = before[kept], source[kept], _without(names, left)
    return Placement(before, source, count), names


def _inserted(names: Sequence[str], rows: Sequence[int], added: Sequence[str]) -> list[str]:
    """With some names before some rows, ascending. Slices, as a loop over all would hold up who
    waits for the interpreter."""
    found: list[str] = []
    for begin, end, name in zip([0, *rows], rows, added, strict=False):
        found += names[begin:end]
        found.append(name)
    return [*found, *names[rows[-1] :]]


def _without(names: Sequence[str], rows: Sequence[int]) -> list[str]:
    """Without some rows, ascending."""
    found: list[str] = []
    for begin, end in zip([0, *(row + 1 for row in rows)], [*rows, len(names)], strict=True):
        found += names[begin:end]
    return found
