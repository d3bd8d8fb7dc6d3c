"""Exact search: the best of many vectors by inner product, filtered and boosted. Pure NumPy.

A table of n vectors is read once, in blocks that stay in the processor's cache; of a block, only
what beats the worst of the best so far is looked at further. So a filter and a booster, however
dear, are worked out for few rows, and nothing of the table's length is sorted or even kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.candidate.sources.arrays import Floats, Rows

BLOCK = 32_768
"""Rows of a block: 8 MiB of 64 floats."""
BATCH_BLOCK = 32_768
"""Rows of a block that many queries share."""
MOST_INT8 = 127.0


class Table(Protocol):
    """Vectors by row, in some form."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions."""

    def block(self, start: int, end: int) -> Floats:
        """The vectors of some rows as float32, [end − start, dimensions]."""


class Judge(Protocol):
    """What a row is worth beyond its score."""

    def values(self, rows: Rows, scores: Floats) -> Floats:
        """Values of rows (ascending) that have these scores; −inf leaves a row out."""

    def least_score(self, value: float) -> float:
        """No row with a lower score is worth more than this."""


@dataclass(frozen=True, eq=False, slots=True)
class Best:
    """Rows, best first, and what they are worth; the lower row first where that is equal."""

    rows: Rows
    values: Floats


@dataclass(frozen=True, eq=False, slots=True)
class Float32:
    """Vectors as they are, [n, d] and C-contiguous."""

    vectors: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions."""
        return self.vectors.shape[0], self.vectors.shape[1]

    def block(self, start: int, end: int) -> Floats:
        """A view."""
        return self.vectors[start:end]


@dataclass(frozen=True, eq=False, slots=True)
class Float16:
    """Half the memory: 11 bits of precision."""

    vectors: npt.NDArray[np.float16]

    @classmethod
    def of(cls, vectors: Floats) -> "Float16":
        """Rounded."""
        return cls(vectors.astype(np.float16))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions."""
        return self.vectors.shape[0], self.vectors.shape[1]

    def block(self, start: int, end: int) -> Floats:
        """Widened."""
        return self.vectors[start:end].astype(np.float32)


@dataclass(frozen=True, eq=False, slots=True)
class Int8:
    """A quarter of the memory: each vector by its largest component, in 255 steps."""

    vectors: npt.NDArray[np.int8]
    steps: Floats
    """Size of a row's step, [n]."""

    @classmethod
    def of(cls, vectors: Floats) -> "Int8":
        """Rounded to the nearest step."""
        steps: Floats = np.abs(vectors).max(axis=1) / np.float32(MOST_INT8)
        safe = np.where(steps > 0, steps, np.float32(1.0))
        return cls(np.rint(vectors / safe[:, None]).astype(np.int8), steps)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions."""
        return self.vectors.shape[0], self.vectors.shape[1]

    def block(self, start: int, end: int) -> Floats:
        """Widened."""
        found: Floats = self.vectors[start:end].astype(np.float32)
        found *= self.steps[start:end, None]
        return found


def top(
    table: Table,
    query: Floats,
    count: int,
    *,
    bias: Floats | None = None,
    judge: Judge | None = None,
) -> Best:
    """The `count` rows worth most for one query, [d]: by x·query + bias, or what `judge` makes of
    it. Fewer when fewer are left. Raises ValueError when query and table don't fit together."""
    _require(table, query, bias, 1)
    kept = _Kept(count, judge)
    for start, end in _blocks(table.shape[0], BLOCK):
        scores = table.block(start, end) @ query
        if bias is not None:
            scores += bias[start:end]
        kept.offer(start, scores)
    return kept.best()


def top_of_each(
    table: Table,
    queries: Floats,
    count: int,
    *,
    bias: Floats | None = None,
    judges: Sequence[Judge] = (),
) -> list[Best]:
    """`top` of many queries, [q, d], in one pass over the table; `judges` one each, or none."""
    _require(table, queries, bias, 2)
    if judges and len(judges) != len(queries):
        raise ValueError(f"{len(queries)} queries with {len(judges)} judges")
    asked: Sequence[Judge | None] = judges or [None] * len(queries)
    kept = [_Kept(count, judge) for judge in asked]
    for start, end in _blocks(table.shape[0], BATCH_BLOCK):
        scores = queries @ table.block(start, end).T
        if bias is not None:
            scores += bias[start:end]
        for one, row in zip(kept, scores, strict=True):
            one.offer(start, row)
    return [one.best() for one in kept]


class _Kept:
    """The best rows so far."""

    def __init__(self, count: int, judge: Judge | None) -> None:
        if count < 1:
            raise ValueError("count must be 1 or more")
        self._count = count
        self._judge = judge
        self._rows: Rows = np.zeros(0, np.int64)
        self._values: Floats = np.zeros(0, np.float32)
        self._worst = -np.inf
        self._least = -np.inf

    def offer(self, start: int, scores: Floats) -> None:
        """The scores of the rows from `start` on, all higher rows than those before."""
        if self._judge is None:
            found = np.flatnonzero(scores > self._worst)
            values = scores[found]
        else:
            found = np.flatnonzero(scores >= self._least)
            if not len(found):
                return
            values = self._judge.values(found + start, scores[found])
            passing = values > self._worst
            found, values = found[passing], values[passing]
        if len(found):
            self._take(found + start, values)

    def best(self) -> Best:
        """What is kept, in order."""
        order = np.lexsort((self._rows, -self._values))
        return Best(self._rows[order], self._values[order])

    def _take(self, rows: Rows, values: Floats) -> None:
        rows = np.concatenate([self._rows, rows])
        values = np.concatenate([self._values, values])
        if len(values) > self._count:
            chosen = _largest(values, self._count)
            rows, values = rows[chosen], values[chosen]
        self._rows, self._values = rows, values
        if len(values) == self._count:
            self._worst = float(values.min())
            self._least = -np.inf if self._judge is None else self._judge.least_score(self._worst)


def _largest(values: Floats, count: int) -> Rows:
    """Places of the largest values, in order of place; of equal ones the first."""
    worst = np.partition(values, len(values) - count)[len(values) - count]
    above = np.flatnonzero(values > worst)
    equal = np.flatnonzero(values == worst)[: count - len(above)]
    chosen: Rows = np.sort(np.concatenate([above, equal]))
    return chosen


def _blocks(count: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, size):
        yield start, min(start + size, count)


def _require(table: Table, queries: Floats, bias: Floats | None, axes: int) -> None:
    rows, dimensions = table.shape
    if queries.ndim != axes or queries.shape[-1] != dimensions:
        raise ValueError(f"vectors of {dimensions} dimensions, queries of shape {queries.shape}")
    if bias is not None and bias.shape != (rows,):
        raise ValueError(f"{rows} vectors, biases of shape {bias.shape}")
    if not np.isfinite(queries).all():
        raise ValueError("a query is not finite")
