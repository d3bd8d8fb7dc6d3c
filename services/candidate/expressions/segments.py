"""The elements of many rows' lists or maps: where they stand, and what they say together."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from services.candidate.expressions.syntax import Macro
from services.candidate.expressions.vectors import Index, Mask, Vector, either, truth

Ints = NDArray[np.integer]

_SPARSE = 8
"""A mask is sparse if at most one element in so many is set."""


@dataclass(frozen=True, eq=False)
class Segments:
    """The elements of each row, row by row."""

    starts: Ints
    """Position of each row's first element in the column."""
    lengths: Ints
    """Number of each row's elements."""
    ends: Ints
    """Number of elements of all rows up to and with each row."""
    is_contiguous: bool
    """Whether each row's elements follow those of the row before."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(self.ends[-1]) if len(self.ends) else 0

    @cached_property
    def parents(self) -> Index:
        """The row of each element, from 0."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @cached_property
    def positions(self) -> slice | Index:
        """Position of each element in the column."""
        if self.is_contiguous:
            start = int(self.starts[0]) if len(self.starts) else 0
            return slice(start, start + self.size)
        return np.arange(self.size) + np.repeat(
            self.starts - self.ends + self.lengths, self.lengths
        )

    def counts(self, mask: Mask) -> Ints:
        """For how many of its elements a row's mask is set."""
        if len(mask) == 1:
            return self.lengths * int(mask[0])
        if np.count_nonzero(mask) * _SPARSE <= len(mask):
            return np.bincount(self.rows_of(np.nonzero(mask)[0]), minlength=len(self.lengths))
        total = np.zeros(self.size + 1, np.int32)
        np.cumsum(mask, out=total[1:])
        counts: Ints = total[self.ends] - total[self.ends - self.lengths]
        return counts

    def rows_of(self, elements: Index) -> Index:
        """The rows of some elements."""
        return np.searchsorted(self.ends, elements, side="right")

    def reduce(self, macro: Macro, condition: Vector, missing: Mask | None) -> Vector:
        """Per row: whether the condition is true for one element at least, all, or exactly one.

        An element whose condition is an error doesn't count for the first two where another decides
        alone; it makes the third an error.
        """
        failed = None if condition.errors is None else self.counts(condition.errors)
        held = self.counts(condition.truths)
        errors = missing if failed is None else either(missing, failed > 0)
        if macro is Macro.EXISTS_ONE:
            return truth(held == 1, errors)
        if macro is Macro.EXISTS:
            decided = held > 0
            return truth(decided, None if errors is None else errors & ~decided)
        refuted = held + (0 if failed is None else failed) < self.lengths
        errors = None if errors is None else errors & ~refuted
        return truth(~refuted, errors)

    def only(self, condition: Vector, values: NDArray[np.float64]) -> Vector:
        """Per row: the value of the one element for which the condition is true; an error if there
        is none."""
        if len(condition.truths) == self.size:
            (chosen,) = np.nonzero(condition.truths)
        else:
            chosen = np.arange(self.size if condition.truths[0] else 0)
        result = np.zeros(len(self.lengths))
        missing = np.ones(len(self.lengths), np.bool_)
        rows = self.rows_of(chosen)
        result[rows] = values[chosen]
        missing[rows] = False
        return Vector(result, missing)
