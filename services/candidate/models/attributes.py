"""Attributes of users or content of items, by which those without interactions are ranked.

One without interactions borrows the profile of those most like it: by its attributes as sparse
features, by vectors of its text, or both.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.sparse import csr_array, diags_array, vstack

from services.candidate.models.ties import TIES
from services.candidate.sources.arrays import Floats, Mask, Matrix, Rows, sparse

Columns = Mapping[str, Sequence[Any]]
NEIGHBOURS = 50
LONG_TEXT = 24
"""Characters beyond which a text counts as words rather than as one value."""
BINS = 5
LENDERS = 4096
"""Of whom those without interactions borrow, at most: memory stays linear."""
LEAST_TIED = 4
"""Of whom has a tie, at least so many are asked."""
BLOCK = 256
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """How columns of attributes become features: values, members of lists, words of long texts, and
    ranges of numbers, each weighted by how rare it is."""

    places: Mapping[str, int]
    """Feature by `column=value`."""
    weights: Floats
    edges: Mapping[str, Sequence[float]]
    """Of the ranges of each column of numbers."""

    @classmethod
    def of(
        cls, tokens: Sequence["_Tokens"], edges: Mapping[str, Sequence[float]], size: int
    ) -> Self:
        """From the tokens of `size` rows, of which numbers have these edges."""
        places: dict[str, int] = {}
        found = []
        for each in tokens:
            own = [places.setdefault(token, len(places)) for token in each.distinct]
            found.append(np.array(own, np.int64)[each.codes])
        counts = np.bincount(np.concatenate(found)) if found else np.empty(0)
        share = counts.astype(np.float32) / max(size, 1)
        return cls(places, (np.log(1 / share) + 0.1).astype(np.float32), edges)

    @cached_property
    def of_ties(self) -> Mask:
        """Which features are ties."""
        return np.array([token.startswith(f"{TIES}=") for token in self.places], np.bool_)

    def features(self, tokens: Sequence["_Tokens"], size: int) -> Matrix:
        """Rows × features of length one. Unknown tokens have none."""
        rows, places = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for each in tokens:
            own = np.array([self.places.get(token, -1) for token in each.distinct], np.int64)
            place = own[each.codes]
            rows.append(each.rows[place >= 0])
            places.append(place[place >= 0])
        where = np.concatenate(places)
        shape = (size, max(len(self.places), 1))
        table = sparse(self.weights[where], np.concatenate(rows), where, shape)
        length = np.sqrt(np.asarray(table.multiply(table).sum(axis=1)).ravel())
        scaled: Matrix = csr_array(diags_array(1 / np.maximum(length, 1e-9)) @ table)
        return scaled.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Attributes:
    """Those of the users, or of the items, in the order of their ids."""

    vocabulary: Vocabulary
    table: Matrix
    """Rows × features of length one."""
    vectors: Floats | None
    """Rows × dimensions of length one, of their texts; 0: no text."""

    @classmethod
    def of(cls, columns: Columns, size: int, vectors: Floats | None = None) -> Self:
        """From columns of `size` rows."""
        edges = {name: _edges(values) for name, values in columns.items() if _numeric(values)}
        tokens = _tokens(columns, edges)
        vocabulary = Vocabulary.of(tokens, edges, size)
        return cls(vocabulary, vocabulary.features(tokens, size), vectors)

    @cached_property
    def by_feature(self) -> Matrix:
        """Features × rows."""
        turned: Matrix = csr_array(self.table.T.tocsr())
        return turned

    def rows(self, rows: Rows) -> "Attributes":
        """Of some of the rows."""
        vectors = None if self.vectors is None else self.vectors[rows]
        return Attributes(self.vocabulary, self.table[rows], vectors)

    def others(self, columns: Columns, size: int, vectors: Floats | None = None) -> "Attributes":
        """Of `size` rows that are not in the model, as features of the same vocabulary."""
        tokens = _tokens(columns, self.vocabulary.edges)
        return Attributes(self.vocabulary, self.vocabulary.features(tokens, size), vectors)

    def likeness(self, other: "Attributes") -> Floats:
        """Rows × rows of the other: the cosine of attributes plus the cosine of texts, each at
        least 0."""
        found = np.asarray((self.table @ other.table.T).todense(), np.float32)
        if self.vectors is not None and other.vectors is not None:
            found += np.maximum(self.vectors @ other.vectors.T, 0)
        return found


def borrowed_profiles(
    table: Matrix, cold: Attributes, known: Attributes, spread: Rows | None = None
) -> Matrix:
    """Profiles for rows without interactions: the mean of those of the rows of `table` that are
    most alike, weighted by likeness. `known`: attributes of all rows of `table`; `spread`: see
    `lenders_of`, None: all that have a profile. Those that are like nobody have none."""
    warm = np.diff(table.indptr) > 0
    spread = np.flatnonzero(warm).astype(np.int64) if spread is None else spread
    parts = []
    for start in range(0, cold.table.shape[0], BLOCK):
        part = cold.rows(np.arange(start, min(start + BLOCK, cold.table.shape[0])))
        some = lenders_of(spread, warm, known, part)
        parts.append(nearest(part.likeness(known.rows(some))) @ table[some])
    if not parts:
        return csr_array(table[:0])
    mixed = parts[0] if len(parts) == 1 else vstack(parts)
    found: Matrix = csr_array(mixed)
    found.eliminate_zeros()
    return found


def lenders_of(spread: Rows, warm: Mask, known: Attributes, cold: Attributes) -> Rows:
    """From whom some others borrow: up to LENDERS of the rows `spread`, evenly, and of the `warm`
    rows with a tie in common with the others. The cost doesn't grow with the rows known."""
    few = spread[:: max(-(-len(spread) // LENDERS), 1)]
    features = cold.table.indices
    shared = np.unique(features[known.vocabulary.of_ties[features]]).astype(np.int64)
    if not len(shared):
        return few
    tied = _rows_with(known.by_feature, shared)
    return np.union1d(few, tied[warm[tied]]).astype(np.int64)


def _rows_with(by_feature: Matrix, features: Rows) -> Rows:
    """Rows that have some features: of each feature all or, where they would be more than LENDERS
    in all, evenly as many as leaves room for the others, but LEAST_TIED."""
    starts = by_feature.indptr[features].astype(np.int64)
    counts = by_feature.indptr[features + 1] - starts
    fewest, most = LEAST_TIED, max(LEAST_TIED, int(counts.max()))
    while fewest < most:
        middle = (fewest + most + 1) // 2
        if np.minimum(counts, middle).sum() <= LENDERS:
            fewest = middle
        else:
            most = middle - 1
    kept = np.minimum(counts, fewest)
    nth = np.arange(kept.sum()) - np.repeat(np.cumsum(kept) - kept, kept)
    spread = nth * np.repeat(counts, kept) // np.repeat(kept, kept)
    found: Rows = by_feature.indices[np.repeat(starts, kept) + spread].astype(np.int64)
    return found


def nearest(likeness: Floats) -> Matrix:
    """Weights that add up to 1 over the few that are most alike; rows × those who are asked."""
    count = min(NEIGHBOURS, likeness.shape[1])
    if not count:
        return csr_array(likeness)
    near = np.argpartition(-likeness, count - 1, axis=1)[:, :count].astype(np.int64)
    weight = np.take_along_axis(likeness, near, axis=1) ** 2
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), np.float32(1e-9))
    rows = np.repeat(np.arange(len(likeness)), count)
    return sparse(weight.ravel(), rows, near.ravel(), likeness.shape)


class _Tokens(NamedTuple):
    """Those of one column: `distinct[codes]` stand in `rows`."""

    rows: Rows
    codes: Rows
    distinct: Sequence[str]
    """In the order in which they come first."""


def _tokens(columns: Columns, edges: Mapping[str, Sequence[float]]) -> list[_Tokens]:
    """Of each column. Empty values have none."""
    found = []
    for column, values in columns.items():
        ranges = edges.get(column)
        rows, codes, texts = _values(values) if ranges is None else _ranges(values, ranges)
        found.append(_Tokens(rows, codes, [f"{column}={text}" for text in texts]))
    return found


def _ranges(values: Sequence[Any], ranges: Sequence[float]) -> _Tokens:
    rows = [row for row, value in enumerate(values) if isinstance(value, int | float)]
    numbers = np.array([values[row] for row in rows], np.float64)
    places, first, codes = np.unique(
        np.searchsorted(ranges, numbers), return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    texts = [f"range {place}" for place in places[order]]
    return _Tokens(np.array(rows, np.int64), np.argsort(order)[codes], texts)


def _values(values: Sequence[Any]) -> _Tokens:
    """Of equal values the words are found once."""
    texts: dict[str, int] = {}
    known: dict[str, list[int]] = {}

    def coded(found: Iterable[str]) -> list[int]:
        return [texts.setdefault(text, len(texts)) for text in found]

    codes: list[list[int]] = []
    for value in values:
        if isinstance(value, list | tuple):
            codes.append(coded(map(str, value)))
        elif value is None or value == "" or value != value:
            codes.append([])
        else:
            text = str(value)
            if text not in known:
                known[text] = coded(_words(text))
            codes.append(known[text])
    counts = np.array([len(each) for each in codes], np.int64)
    flat = np.fromiter(chain.from_iterable(codes), np.int64, int(counts.sum()))
    return _Tokens(np.repeat(np.arange(len(codes)), counts), flat, list(texts))


def _numeric(values: Sequence[Any]) -> bool:
    known = _numbers(values)
    return bool(known) and not any(isinstance(value, bool) for value in known)


def _edges(values: Sequence[Any]) -> list[float]:
    quantiles = np.quantile(_numbers(values), np.linspace(0, 1, BINS + 1)[1:-1])
    return [float(edge) for edge in np.unique(quantiles)]


def _numbers(values: Sequence[Any]) -> list[float]:
    return [value for value in values if isinstance(value, int | float) and value == value]


def _words(text: str) -> Sequence[str]:
    return sorted(set(_WORD.findall(text.lower()))) if len(text) > LONG_TEXT else [text]
