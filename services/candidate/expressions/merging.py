"""Two tables become one: a table as it was and the users who are new or changed since."""

from collections.abc import Callable
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.candidate.expressions.columns import (
    Codes,
    CollectionColumn,
    Column,
    Columns,
    PlainColumn,
    TextColumn,
    smallest,
)
from services.candidate.expressions.schema import AttributeType

Rows = NDArray[np.int64]
_SPARE = 1024
"""Texts that nobody has any more, beside as many as are in use, before they are dropped."""


def merge_columns(base: Columns, newer: Columns, rows: Rows) -> Columns:
    """The table whose row i is row `rows[i]` of `base`, or, from `base.size` on, of `newer`.

    Time and memory are linear in the rows. Raises ValueError for an attribute that is of one type
    in one table and of another in the other.
    """
    types: dict[str, AttributeType] = {}
    columns: dict[str, Column] = {}
    for name in [*base.types, *(name for name in newer.types if name not in base.types)]:
        types[name] = _type(name, base.types.get(name), newer.types.get(name))
        first, second = base.columns.get(name), newer.columns.get(name)
        known = first if first is not None else second
        if isinstance(known, TextColumn):
            columns[name] = _texts(_text(first, base.size), _text(second, newer.size), rows)
        elif isinstance(known, CollectionColumn):
            columns[name] = _collections(
                _collection(first, known, base.size), _collection(second, known, newer.size), rows
            )
        else:
            columns[name] = _plain(first, second, (base.size, newer.size), rows)
    mistyped = {
        name: base.mistyped.get(name, 0) + newer.mistyped.get(name, 0)
        for name in {*base.mistyped, *newer.mistyped}
    }
    return Columns(
        len(rows),
        MappingProxyType(types),
        MappingProxyType(columns),
        MappingProxyType(mistyped),
        base.owner,
    )


def _type(name: str, first: AttributeType | None, second: AttributeType | None) -> AttributeType:
    if first is None or second is None or first is second:
        found = first or second
        assert found is not None
        return found
    raise ValueError(f"attribute {name!r} is of type {first.value} and of type {second.value}")


def _plain(
    first: Column | None, second: Column | None, sizes: tuple[int, int], rows: Rows
) -> PlainColumn:
    values, masks = [], []
    whole = True
    for column, size in zip((first, second), sizes, strict=True):
        if column is None:
            masks.append(np.zeros(size, np.bool_))
            whole = whole and size == 0
            continue
        assert isinstance(column, PlainColumn)
        values.append(column.values)
        masks.append(np.ones(size, np.bool_) if column.present is None else column.present)
        whole = whole and column.present is None
    if first is None:
        values.insert(0, np.zeros(sizes[0], values[0].dtype))
    elif second is None:
        values.append(np.zeros(sizes[1], values[0].dtype))
    return PlainColumn(
        np.concatenate(values)[rows], None if whole else _present(np.concatenate(masks)[rows])
    )


def _present(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return None if mask.all() else mask


def _text(column: Column | None, size: int) -> TextColumn:
    if column is None:
        return TextColumn(np.zeros(size, np.uint8), pa.array([""], pa.large_string()))
    assert isinstance(column, TextColumn)
    return column


def _texts(first: TextColumn, second: TextColumn, rows: Rows) -> TextColumn:
    vocabulary, recode_first, recode_second = _united(first.vocabulary, second.vocabulary)
    codes = np.concatenate([recode_first(first.codes), recode_second(second.codes)])[rows]
    return TextColumn(*_compact(codes, vocabulary))


def _collection(column: Column | None, like: CollectionColumn, size: int) -> CollectionColumn:
    if column is None:
        return CollectionColumn(
            offsets=np.zeros(size + 1, np.int64),
            codes=np.zeros(0, np.uint8),
            vocabulary=pa.array([""], pa.large_string()),
            values=None if like.values is None else np.zeros(0),
            present=np.zeros(size, np.bool_),
            longest=0,
        )
    assert isinstance(column, CollectionColumn)
    return column


def _collections(first: CollectionColumn, second: CollectionColumn, rows: Rows) -> CollectionColumn:
    vocabulary, recode_first, recode_second = _united(first.vocabulary, second.vocabulary)
    lengths = np.concatenate([np.diff(first.offsets), np.diff(second.offsets)])[rows]
    begins = np.concatenate([first.offsets[:-1], second.offsets[:-1] + len(first.codes)])[rows]
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    taken = np.repeat(begins - offsets[:-1], lengths) + np.arange(offsets[-1])
    codes = np.concatenate([recode_first(first.codes), recode_second(second.codes)])[taken]
    values = None
    if first.values is not None and second.values is not None:
        values = np.concatenate([first.values, second.values])[taken]
    masks = [
        np.ones(len(column.offsets) - 1, np.bool_) if column.present is None else column.present
        for column in (first, second)
    ]
    codes, vocabulary = _compact(codes, vocabulary)
    return CollectionColumn(
        offsets,
        codes,
        vocabulary,
        values,
        _present(np.concatenate(masks)[rows]),
        int(lengths.max(initial=0)),
    )


Recode = Callable[[Codes], NDArray[np.int64]]


def _united(
    first: pa.LargeStringArray, second: pa.LargeStringArray
) -> tuple[pa.LargeStringArray, Recode, Recode]:
    """The texts of both vocabularies, and what makes their codes codes of it."""
    own, others = first[:-1], second[:-1]
    places = pc.index_in(others, value_set=own)
    new = np.asarray(places.is_null())
    known = np.asarray(places.fill_null(0), np.int64)
    codes = np.where(new, len(own) + np.cumsum(new) - 1, known)
    empty = pa.array([""], pa.large_string())
    vocabulary = pa.concat_arrays([own, others.filter(pa.array(new)), empty])
    missing = len(vocabulary) - 1
    of_first = np.append(np.arange(len(own)), missing)
    of_second = np.append(codes, missing)
    return vocabulary, lambda found: of_first[found], lambda found: of_second[found]


def _compact(
    codes: NDArray[np.int64], vocabulary: pa.LargeStringArray
) -> tuple[Codes, pa.LargeStringArray]:
    """Without the texts that nobody has any more, once they are many."""
    if len(vocabulary) > 2 * len(codes) + _SPARE:
        used = np.unique(np.append(codes, len(vocabulary) - 1))
        codes = np.searchsorted(used, codes)
        vocabulary = vocabulary.take(pa.array(used))
    return codes.astype(smallest(len(vocabulary))), vocabulary
