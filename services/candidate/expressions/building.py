"""Builds columns from users' attributes, one user after the other."""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from services.candidate.expressions.columns import (
    CollectionColumn,
    Columns,
    PlainColumn,
    TextColumn,
    smallest,
)
from services.candidate.expressions.schema import AttributeType, Schema
from services.candidate.expressions.values import TypedValue, converted

_FORMATS: Mapping[AttributeType, tuple[str, DTypeLike]] = {
    AttributeType.BOOL: ("b", np.bool_),
    AttributeType.INT: ("q", np.int64),
    AttributeType.DOUBLE: ("d", np.float64),
    AttributeType.TIMESTAMP: ("q", np.int64),
    AttributeType.DURATION: ("q", np.int64),
}
"""Format of the buffer and type of the column, by type of the attribute."""


class ColumnsBuilder:
    """Takes users in the order of their rows. Time and memory are linear in what is there."""

    def __init__(self, schema: Schema) -> None:
        """Attributes have the types of the schema."""
        self._types = dict(schema.types)
        self._owner = schema.owner
        self._parts = {name: _part(kind) for name, kind in self._types.items()}
        self._mistyped: Counter[str] = Counter()
        self._size = 0

    def add(self, attributes: Mapping[str, TypedValue]) -> None:
        """The next user. Values of attributes that the schema lacks, and those that can't be
        converted to their attribute's type exactly, are left out and counted."""
        row = self._size
        self._size += 1
        for name, value in attributes.items():
            kind = self._types.get(name)
            found = value if value.type is kind or kind is None else converted(value, kind)
            if kind is None or found is None:
                self._mistyped[name] += 1
            else:
                self._parts[name].append(row, found.raw)

    def finish(self) -> Columns:
        """The table. The builder is of no use afterwards."""
        columns = {name: part.column(self._size) for name, part in self._parts.items()}
        return Columns(
            self._size,
            MappingProxyType(self._types),
            MappingProxyType(columns),
            MappingProxyType(dict(self._mistyped)),
            self._owner,
        )


def build_columns(users: Iterable[Mapping[str, TypedValue]], schema: Schema) -> Columns:
    """The table of `users`, in their order."""
    builder = ColumnsBuilder(schema)
    for attributes in users:
        builder.add(attributes)
    return builder.finish()


class _Vocabulary:
    """Gives each distinct text a code."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def code(self, text: str) -> int:
        return self._codes.setdefault(text, len(self._codes))

    def finish(self) -> pa.LargeStringArray:
        """The texts by code, then the one that stands for "missing"."""
        return pa.array([*self._codes, ""], pa.large_string())


class _PlainPart:
    def __init__(self, kind: AttributeType) -> None:
        code, self._dtype = _FORMATS[kind]
        self._rows = array("q")
        self._values: array[Any] = array(code)

    def append(self, row: int, raw: object) -> None:
        self._values.append(raw)
        self._rows.append(row)

    def column(self, size: int) -> PlainColumn:
        rows, values = _read(self._rows), np.array(self._values).astype(self._dtype)
        scattered = np.zeros(size, self._dtype)
        scattered[rows] = values
        return PlainColumn(scattered, None if len(rows) == size else _mask(rows, size))


class _TextPart:
    def __init__(self) -> None:
        self._rows = array("q")
        self._codes = array("i")
        self._vocabulary = _Vocabulary()

    def append(self, row: int, raw: object) -> None:
        self._codes.append(self._vocabulary.code(str(raw)))
        self._rows.append(row)

    def column(self, size: int) -> TextColumn:
        vocabulary = self._vocabulary.finish()
        codes = np.full(size, len(vocabulary) - 1, smallest(len(vocabulary)))
        codes[_read(self._rows)] = _read(self._codes)
        return TextColumn(codes, vocabulary)


class _CollectionPart:
    def __init__(self, is_map: bool) -> None:
        self._is_map = is_map
        self._rows = array("q")
        self._lengths = array("q")
        self._codes = array("i")
        self._values = array("d")
        self._vocabulary = _Vocabulary()

    def append(self, row: int, raw: object) -> None:
        assert isinstance(raw, list | dict)
        self._codes.extend([self._vocabulary.code(text) for text in raw])
        if isinstance(raw, dict):
            self._values.extend(raw.values())
        self._rows.append(row)
        self._lengths.append(len(raw))

    def column(self, size: int) -> CollectionColumn:
        rows, vocabulary = _read(self._rows), self._vocabulary.finish()
        offsets = np.zeros(size + 1, np.int64)
        offsets[rows + 1] = _read(self._lengths)
        return CollectionColumn(
            offsets=np.cumsum(offsets, out=offsets),
            codes=_read(self._codes).astype(smallest(len(vocabulary))),
            vocabulary=vocabulary,
            values=np.array(self._values) if self._is_map else None,
            present=None if len(rows) == size else _mask(rows, size),
            longest=max(self._lengths, default=0),
        )


_Part = _PlainPart | _TextPart | _CollectionPart


def _part(kind: AttributeType) -> _Part:
    if kind is AttributeType.STRING:
        return _TextPart()
    return (
        _CollectionPart(kind is AttributeType.NUMBER_MAP)
        if kind.is_collection
        else _PlainPart(kind)
    )


def _read(buffer: "array[int]") -> NDArray[np.int64]:
    return np.array(buffer)


def _mask(rows: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    mask = np.zeros(size, np.bool_)
    mask[rows] = True
    return mask
