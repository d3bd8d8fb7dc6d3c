"""Exact search: the best of many vectors by inner product, filtered and boosted. Pure NumPy.

A table of n vectors is read once, in blocks that stay in the processor's cache; of a block, only
what beats the worst of the best so far is looked at further. So a filter and a booster, however
dear, are worked out for few rows, those of many blocks at a time, and nothing of the table's length
is sorted or even kept.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.candidate.sources.arrays import Floats, Rows

BLOCK = 32_768
"""Rows of a block: 8 MiB of 64 floats."""
JUDGED_AT_ONCE = 32_768
"""Rows that wait before a judge is asked about them together: asking has a price of its own."""
JUDGED_FIRST = 16
"""Rows that a judge is asked about first, per row wanted: the best by score, to bound the rest."""
WIDENED = 1 << 18
"""Numbers widened to 32 bits at a time: 1 MiB."""
MOST_INT8 = 127.0
NOTHING: Rows = np.zeros(0, np.int64)
LOWEST = float(np.finfo(np.float32).min)
_FLOAT16_BIAS = 112
"""How much greater a float32's exponents are written than a float16's."""
_FLOAT16_BITS = np.uint32(0x8FFFE000).view(np.int32)
"""Sign, exponent and fraction of a float16 that was widened and moved to the left."""


class Table(Protocol):
    """Vectors by row, in some form."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions."""

    def scores(self, queries: Floats, start: int, end: int) -> Floats:
        """Inner products with some rows: [end − start] of one query, [d]; [q, end − start] of
        many, [q, d]."""


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
    scores: Floats
    """By inner product and bias; the values, unless a judge gave them."""


@dataclass(frozen=True, eq=False, slots=True)
class Float32:
    """Vectors as they are, [n, d] and C-contiguous."""

    vectors: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions."""
        return self.vectors.shape[0], self.vectors.shape[1]

    def scores(self, queries: Floats, start: int, end: int) -> Floats:
        """Inner products with some rows."""
        found: Floats = queries @ self.vectors[start:end].T
        return found


@dataclass(frozen=True, eq=False, slots=True)
class Float16:
    """Half the memory: 11 bits of precision."""

    vectors: npt.NDArray[np.float16]

    @classmethod
    def of(cls, vectors: Floats) -> "Float16":
        """Rounded. Raises ValueError for values that a float16 can't hold."""
        with np.errstate(over="ignore"):
            rounded = vectors.astype(np.float16)
        if not np.isfinite(rounded).all():
            raise ValueError("a vector has values beyond ±65,504")
        return cls(rounded)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions."""
        return self.vectors.shape[0], self.vectors.shape[1]

    def scores(self, queries: Floats, start: int, end: int) -> Floats:
        """Inner products with some rows.

        A float16's bits, moved to where a float32 has them, are the same number but for the bias of
        the exponent: 2^−112 of it. The queries make up for that, by powers of two and so without
        error. This takes half the time of NumPy's conversion.
        """
        exponent = int(np.frexp(np.abs(queries).max(initial=0.0))[1])
        raised = np.ldexp(queries, _FLOAT16_BIAS - exponent)
        bits = self.vectors.view(np.int16)

        def widened(rows: slice, buffer: npt.NDArray[np.int32]) -> Floats:
            np.left_shift(bits[rows], 13, out=buffer, dtype=np.int32)
            np.bitwise_and(buffer, _FLOAT16_BITS, out=buffer)
            return buffer.view(np.float32)

        return np.ldexp(_products(raised, start, end, widened), exponent)


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

    def scores(self, queries: Floats, start: int, end: int) -> Floats:
        """Inner products with some rows."""

        def widened(rows: slice, buffer: npt.NDArray[np.int32]) -> Floats:
            found: Floats = buffer.view(np.float32)
            np.copyto(found, self.vectors[rows])
            return found

        scores = _products(queries, start, end, widened)
        scores *= self.steps[start:end]
        return scores


def _products(
    queries: Floats,
    start: int,
    end: int,
    widened: Callable[[slice, npt.NDArray[np.int32]], Floats],
) -> Floats:
    """Inner products with rows that have to be widened, few enough at a time for the cache."""
    dimensions = queries.shape[-1]
    size = max(1, WIDENED // dimensions)
    buffer = np.empty((size, dimensions), np.int32)
    scores: Floats = np.empty((*queries.shape[:-1], end - start), np.float32)
    for first, last in _blocks(end - start, size):
        rows = slice(start + first, start + last)
        scores[..., first:last] = queries @ widened(rows, buffer[: last - first]).T
    return scores


def top(
    table: Table,
    query: Floats,
    count: int,
    *,
    bias: Floats | None = None,
    excluded: Rows = NOTHING,
    judge: Judge | None = None,
) -> Best:
    """The `count` rows worth most for one query, [d]: by x·query + bias, or what `judge` makes of
    it; none of those `excluded`, which ascend. Fewer when fewer are left. Raises ValueError when
    query and table don't fit together."""
    kept = _Kept(count) if judge is None else _Judged(count, judge)
    for start, scores in _scored(table, query, bias, excluded):
        kept.offer(start, scores)
    return kept.best()


def all_scores(
    table: Table, query: Floats, *, bias: Floats | None = None, excluded: Rows = NOTHING
) -> Floats:
    """The scores of all rows, to the last bit those that `top` compares; −inf where excluded."""
    parts = [scores for _, scores in _scored(table, query, bias, excluded)]
    found: Floats = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return found


def _scored(
    table: Table, query: Floats, bias: Floats | None, excluded: Rows
) -> Iterator[tuple[int, Floats]]:
    """First row and scores of each block. How a product is rounded may depend on the block."""
    _require(table, query, bias, 1)
    for start, end in _blocks(table.shape[0], BLOCK):
        scores = table.scores(query, start, end)
        if bias is not None:
            scores += bias[start:end]
        first, last = np.searchsorted(excluded, (start, end))
        scores[excluded[first:last] - start] = -np.inf
        yield start, scores


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
    kept: list[_Kept | _Judged]
    kept = [_Judged(count, judge) for judge in judges] or [_Kept(count) for _ in queries]
    for start, end in _blocks(table.shape[0], BLOCK):
        scores = table.scores(queries, start, end)
        if bias is not None:
            scores += bias[start:end]
        for one, row in zip(kept, scores, strict=True):
            one.offer(start, row)
    return [one.best() for one in kept]


class _Kept:
    """The best rows so far."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError("count must be 1 or more")
        self._count = count
        nothing = np.zeros(0, np.float32)
        self._best = Best(NOTHING, nothing, nothing)
        self.worst = -np.inf
        """What a row has to be worth to be kept; −inf until there are enough."""

    @property
    def full(self) -> bool:
        """Whether there are as many as wanted."""
        return len(self._best.rows) == self._count

    def offer(self, start: int, scores: Floats) -> None:
        """The scores of the rows from `start` on, all higher rows than those before."""
        found = np.flatnonzero(scores > self.worst)
        if len(found):
            self.take(Best(found + start, scores[found], scores[found]))

    def take(self, more: Best) -> None:
        """Keep the best of these and those before; rows in any order, each once."""
        before = self._best
        rows = np.concatenate([before.rows, more.rows])
        values = np.concatenate([before.values, more.values])
        scores = np.concatenate([before.scores, more.scores])
        if len(rows) > self._count:
            chosen = _largest(rows, values, self._count)
            rows, values, scores = rows[chosen], values[chosen], scores[chosen]
        self._best = Best(rows, values, scores)
        if self.full:
            self.worst = float(values.min())

    def best(self) -> Best:
        """What is kept, in order."""
        found = self._best
        order = np.lexsort((found.rows, -found.values))
        return Best(found.rows[order], found.values[order], found.scores[order])


class _Judged:
    """The best rows so far by what a judge says; those that it has yet to be asked about wait."""

    def __init__(self, count: int, judge: Judge) -> None:
        self._kept = _Kept(count)
        self._judge = judge
        self._first = JUDGED_FIRST * count
        self._least = max(judge.least_score(-np.inf), LOWEST)
        self._waiting: list[tuple[Rows, Floats]] = []
        self._waiting_count = 0

    def offer(self, start: int, scores: Floats) -> None:
        """The scores of the rows from `start` on, all higher rows than those before."""
        found = np.flatnonzero(scores >= self._least)
        if len(found):
            self._waiting.append((found + start, scores[found]))
            self._waiting_count += len(found)
            if self._waiting_count >= JUDGED_AT_ONCE:
                self._ask()

    def best(self) -> Best:
        """What is kept, in order."""
        if self._waiting:
            self._ask()
        return self._kept.best()

    def _ask(self) -> None:
        rows, scores = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._waiting_count = [], 0
        if not self._kept.full and len(rows) > self._first:
            ahead = np.zeros(len(rows), np.bool_)
            ahead[np.argpartition(scores, len(scores) - self._first)[-self._first :]] = True
            self._judge_rows(rows[ahead], scores[ahead])
            rows, scores = rows[~ahead], scores[~ahead]
        within = scores >= self._least
        self._judge_rows(rows[within], scores[within])

    def _judge_rows(self, rows: Rows, scores: Floats) -> None:
        if not len(rows):
            return
        values = self._judge.values(rows, scores)
        passing = (values >= self._kept.worst) & (values > -np.inf)
        self._kept.take(Best(rows[passing], values[passing], scores[passing]))
        if self._kept.full:
            self._least = max(self._judge.least_score(self._kept.worst), LOWEST)


def _largest(rows: Rows, values: Floats, count: int) -> Rows:
    """Places of the largest values; of equal ones those with the lowest rows."""
    worst = np.partition(values, len(values) - count)[len(values) - count]
    above = np.flatnonzero(values > worst)
    equal = np.flatnonzero(values == worst)
    equal = equal[np.argsort(rows[equal])[: count - len(above)]]
    chosen: Rows = np.concatenate([above, equal])
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
