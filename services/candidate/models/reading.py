"""Reads interactions, attributes and ids from Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.candidate.models.attributes import Columns
from services.candidate.models.interactions import Interactions, Seconds
from services.candidate.models.ties import tie_lists
from services.candidate.sources.arrays import NONE, Floats

LATEST = datetime(2200, 1, 1, tzinfo=UTC).timestamp()
"""Seconds; milliseconds of any day after March 1970 lie beyond."""


class InputError(Exception):
    """A file that can't be used; the message names it, the column, and the row (from 0)."""


def read_interactions(
    path: Path, users: Sequence[str] = (), items: Sequence[str] = ()
) -> Interactions:
    """Columns `user_id`, `item_id`, optional `timestamp` (a timestamp or seconds since 1970,
    before 2200) and `weight`. `users` and `items` are further ids, without interactions. Raises
    InputError."""
    table = _table(path)
    names = _ids(path, table, "user_id"), _ids(path, table, "item_id")
    if not len(table):
        raise InputError(f"{path}: holds no interactions")
    user_ids, user_rows = _rows(names[0], users)
    item_ids, item_rows = _rows(names[1], items)
    times = _times(path, table) if "timestamp" in table.column_names else None
    weights: Floats = np.ones(len(table), np.float32)
    if "weight" in table.column_names:
        weights = _numbers(path, table, "weight").astype(np.float32)
    return Interactions(user_ids, item_ids, user_rows, item_rows, times, weights)


def read_attributes(path: Path, key: str) -> tuple[list[str], dict[str, Sequence[Any]]]:
    """Ids, each once, and all other columns. Raises InputError."""
    table = _table(path)
    ids = _ids(path, table, key)
    first: dict[str, int] = {}
    for row, name in enumerate(ids):
        if first.setdefault(name, row) != row:
            raise InputError(f"{path}: column {key!r}, row {row}: {name!r} stands there twice")
    others = [name for name in table.column_names if name != key]
    return ids, {name: table.column(name).to_pylist() for name in others}


def read_ties(path: Path, ids: Sequence[str]) -> list[list[str] | None]:
    """Columns `user_id` and `target_id`, whom the user follows or is friends with, to the attribute
    of `tie_lists`. Ties of users who aren't among `ids` are left out. Raises InputError."""
    table = _table(path)
    rows = {name: row for row, name in enumerate(ids)}
    users, targets = (
        np.array([rows.get(name, NONE) for name in _ids(path, table, column)], np.int64)
        for column in ("user_id", "target_id")
    )
    known = (users != NONE) & (targets != NONE)
    return tie_lists(ids, users[known], targets[known])


def aligned(ids: Sequence[str], given: Sequence[str], columns: Columns) -> Columns:
    """Columns in the order of `ids`; None for an id that isn't given."""
    place = {name: row for row, name in enumerate(given)}
    rows = [place.get(name) for name in ids]
    return {
        column: [None if row is None else values[row] for row in rows]
        for column, values in columns.items()
    }


def read_ids(path: Path, key: str) -> list[str]:
    """The column `key` of a Parquet file. Raises InputError."""
    return _ids(path, _table(path), key)


def _table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read as Parquet: {reason}") from error


def _column(path: Path, table: pa.Table, name: str) -> pa.ChunkedArray[Any]:
    if table.column_names.count(name) != 1:
        there = ", ".join(table.column_names) or "none"
        raise InputError(f"{path}: needs one column {name!r}; its columns are: {there}")
    column = table.column(name)
    if column.null_count:
        row = int(np.flatnonzero(pc.is_null(column).to_numpy())[0])
        raise InputError(f"{path}: column {name!r}, row {row}: is empty")
    return column


def _ids(path: Path, table: pa.Table, name: str) -> list[str]:
    column = _column(path, table, name)
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind):
        return [str(value) for value in column.to_pylist()]
    raise InputError(f"{path}: column {name!r}: ids are texts or whole numbers, not {kind}")


def _numbers(path: Path, table: pa.Table, name: str) -> Seconds:
    column = _column(path, table, name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise InputError(f"{path}: column {name!r}: needs numbers, not {column.type}")
    values = np.asarray(column.to_numpy(), np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise InputError(f"{path}: column {name!r}, row {wrong[0]}: {values[wrong[0]]}")
    return values


def _times(path: Path, table: pa.Table) -> Seconds:
    column = _column(path, table, "timestamp")
    if pa.types.is_timestamp(column.type):
        times = np.asarray(column.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()) / 1e6
    else:
        times = _numbers(path, table, "timestamp")
    wrong = np.flatnonzero((times < 0) | (times >= LATEST))
    if len(wrong):
        raise InputError(
            f"{path}: column 'timestamp', row {wrong[0]}: {column[int(wrong[0])].as_py()} is not a "
            "time between 1970 and 2200; numbers are seconds since 1970, not milliseconds"
        )
    return times


def _rows(names: Sequence[str], more: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    ids = sorted({*names, *more})
    place = {name: row for row, name in enumerate(ids)}
    return ids, np.fromiter((place[name] for name in names), np.int64, len(names))
