"""Builds columns from users' attributes, one user after the other."""

from array import array
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from services.candidate.expressions.columns import (
    CollectionColumn,
    Column,
    Columns,
    PlainColumn,
    TextColumn,
)
from services.candidate.expressions.schema import AttributeType, Schema
from services.candidate.expressions.values import TypedValue

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
        self._types = dict(schema.types)
        self._parts = {name: _part(kind) for name, kind in self._types.items()}
        self._mistyped = dict.fromkeys(self._types, 0)
        self._size = 0

    def add(self, attributes: Mapping[str, TypedValue]) -> None:
        """The next user. Attributes that the schema lacks are left out; so are, and are counted,
        those of another type, but for a whole number where a double belongs."""
        row = self._size
        self._size += 1
        for name, value in attributes.items():
            kind = self._types.get(name)
            if kind is None:
                continue
            if value.type is kind or (
                kind is AttributeType.DOUBLE and value.type is AttributeType.INT
            ):
                self._parts[name].append(row, value.raw)
            else:
                self._mistyped[name] += 1

    def finish(self) -> Columns:
        """The table. The builder is of no use afterwards."""
        columns: dict[str, Column] = {}
        for name in self._types:
            columns[name] = self._parts.pop(name).column(self._size)
        counts = {name: count for name, count in self._mistyped.items() if count}
        types = MappingProxyType(self._types)
        return Columns(self._size, types, MappingProxyType(columns), MappingProxyType(counts))


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
        self._values = array(code)

    def append(self, row: int, raw: object) -> None:
        self._values.append(raw)  # type: ignore[arg-type]
        self._rows.append(row)

    def column(self, size: int) -> PlainColumn:
        rows, values = _read(self._rows), np.array(self._values).astype(self._dtype)
        if len(rows) == size:
            return PlainColumn(values, None)
        scattered = np.zeros(size, self._dtype)
        scattered[rows] = values
        return PlainColumn(scattered, _mask(rows, size))


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
        codes = np.full(size, len(vocabulary) - 1, _smallest(len(vocabulary)))
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
            codes=_read(self._codes).astype(_smallest(len(vocabulary))),
            vocabulary=vocabulary,
            values=np.array(self._values) if self._is_map else None,
            present=None if len(rows) == size else _mask(rows, size),
            longest=max(self._lengths, default=0),
        )


def _part(kind: AttributeType) -> _PlainPart | _TextPart | _CollectionPart:
    if kind is AttributeType.STRING:
        return _TextPart()
    return (
        _CollectionPart(kind is AttributeType.NUMBER_MAP)
        if kind.is_collection
        else _PlainPart(kind)
    )


def _smallest(entries: int) -> np.dtype[np.integer]:
    """The smallest type for codes below `entries`."""
    size = np.uint8 if entries <= 2**8 else np.uint16 if entries <= 2**16 else np.int32
    return np.dtype(size)


def _read(buffer: "array[int]") -> NDArray[np.int64]:
    return np.array(buffer)


def _mask(rows: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    mask = np.zeros(size, np.bool_)
    mask[rows] = True
    return mask
