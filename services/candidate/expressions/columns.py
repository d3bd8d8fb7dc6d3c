"""Attributes of all users as columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.candidate.expressions.schema import AttributeType, Schema

Codes = NDArray[np.integer]
"""uint8, uint16 or int32, whichever is the smallest that fits."""


@dataclass(frozen=True, eq=False, slots=True)
class PlainColumn:
    """Numbers, truths, times and spans of time (int64 microseconds, times since 1970 in UTC)."""

    values: NDArray[np.generic]
    """One per row; 0 where it is missing."""
    present: NDArray[np.bool_] | None
    """None: every row has one."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.values.nbytes + _bytes(self.present)


@dataclass(frozen=True, eq=False, slots=True)
class TextColumn:
    """Texts, each distinct one stored once."""

    codes: Codes
    """Position in the vocabulary; a row without a text has that of the last entry."""
    vocabulary: pa.LargeStringArray
    """The distinct texts, then an empty one that stands for "missing"."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.codes.nbytes + self.vocabulary.nbytes


@dataclass(frozen=True, eq=False, slots=True)
class CollectionColumn:
    """Lists of texts, or maps of numbers by text, one behind the other."""

    offsets: NDArray[np.int64]
    """Row i has the elements from offsets[i] up to offsets[i + 1]; none where it is missing."""
    codes: Codes
    """Each element's text, or each entry's key, as a position in the vocabulary."""
    vocabulary: pa.LargeStringArray
    """As in `TextColumn`; its last entry is not in use."""
    values: NDArray[np.float64] | None
    """Each entry's number; None for lists."""
    present: NDArray[np.bool_] | None
    """None: every row has one, if only an empty one."""
    longest: int
    """Greatest number of elements in a row."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        fixed = self.offsets.nbytes + self.codes.nbytes + self.vocabulary.nbytes
        return fixed + _bytes(self.values) + _bytes(self.present)


Column = PlainColumn | TextColumn | CollectionColumn


@dataclass(frozen=True, eq=False, slots=True)
class Columns:
    """A table of users or items. Immutable; made by `ColumnsBuilder`."""

    size: int
    """Number of rows."""
    types: Mapping[str, AttributeType]
    """Type by attribute."""
    columns: Mapping[str, Column]
    """Column by attribute."""
    mistyped: Mapping[str, int]
    """Values by attribute that were left out because they aren't of its type, or because it has
    none; those of merged tables are counted again."""
    owner: str = "user"
    """What expressions call a row."""

    @property
    def schema(self) -> Schema:
        """Types and greatest lengths, for compiling expressions over this table."""
        longest = {
            name: column.longest
            for name, column in self.columns.items()
            if isinstance(column, CollectionColumn)
        }
        return Schema(self.types, MappingProxyType(longest), self.owner)

    def lists(self, rows: NDArray[np.int64]) -> dict[str, list[Any]]:
        """The values of some rows by attribute: numbers (times and spans in microseconds), truths,
        texts, lists of texts, and of maps the keys; None where one is missing."""
        return {name: _list(column, rows) for name, column in self.columns.items()}

    def mean_length(self, name: str) -> float:
        """Mean number of elements of a list or map attribute over all rows."""
        column = self.columns[name]
        assert isinstance(column, CollectionColumn)
        return len(column.codes) / max(1, self.size)

    def mean_text_bytes(self, name: str) -> float:
        """Mean size of the attribute's distinct texts in bytes; 0 if it has none."""
        column = self.columns[name]
        if isinstance(column, PlainColumn):
            return 0.0
        return column.vocabulary.nbytes / len(column.vocabulary)

    @property
    def nbytes(self) -> int:
        """Bytes that all columns take."""
        return sum(column.nbytes for column in self.columns.values())


def _list(column: Column, rows: NDArray[np.int64]) -> list[Any]:
    if isinstance(column, TextColumn):
        codes = column.codes[rows]
        found = _texts(column.vocabulary, codes)
        present = codes != len(column.vocabulary) - 1
    elif isinstance(column, PlainColumn):
        found = column.values[rows].tolist()
        present = np.ones(len(rows), np.bool_) if column.present is None else column.present[rows]
    else:
        begins = column.offsets[rows]
        lengths = column.offsets[rows + 1] - begins
        bounds = np.append(0, np.cumsum(lengths))
        taken = np.repeat(begins - bounds[:-1], lengths) + np.arange(bounds[-1])
        members = _texts(column.vocabulary, column.codes[taken])
        found = [members[begin:end] for begin, end in pairwise(bounds.tolist())]
        present = np.ones(len(rows), np.bool_) if column.present is None else column.present[rows]
    return [value if there else None for value, there in zip(found, present.tolist(), strict=True)]


def _texts(vocabulary: pa.LargeStringArray, codes: Codes) -> list[Any]:
    found: list[Any] = vocabulary.take(pa.array(codes.astype(np.int64), pa.int64())).to_pylist()
    return found


def smallest(entries: int) -> np.dtype[np.integer]:
    """The smallest type for codes below `entries`."""
    size = np.uint8 if entries <= 2**8 else np.uint16 if entries <= 2**16 else np.int32
    return np.dtype(size)


def _bytes(array: NDArray[np.generic] | None) -> int:
    return 0 if array is None else array.nbytes
