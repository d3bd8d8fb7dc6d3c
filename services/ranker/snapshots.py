"""Snapshots: the features of one user and of their events, as bytes."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.batch import rows
from services.ranker.features.schema import (
    EVENT_FEATURES,
    EVENT_ITEMS,
    SEQUENCES,
    STEPS,
    TABLE_ROWS,
    USER_FEATURES,
    Features,
    FeatureSpec,
    empty,
    schema_hash,
)

_MARK = b"hsn3" + bytes.fromhex(schema_hash())
_COUNTED = ("counts", "type_counts")
"""Of a user, mostly zeros: only the cells that hold something are stored."""


def _record(
    specs: Iterable[FeatureSpec], *, of_steps: bool = False, items: int = EVENT_ITEMS
) -> np.dtype[Any]:
    """One user, event, or step, as it is stored: its features one after the other, rows of tables
    as single bytes. Of the items of an event so many."""
    shapes = {"event_items": (items,)}
    return np.dtype(
        [
            (
                spec.name,
                "u1" if spec.name in TABLE_ROWS else np.dtype(spec.dtype).newbyteorder("<"),
                () if of_steps else shapes.get(spec.name, spec.shape),
            )
            for spec in specs
        ]
    )


_USER = _record(
    spec for spec in USER_FEATURES if spec.shape != (STEPS,) and spec.name not in _COUNTED
)
_CELL = np.dtype([("cell", "u1"), ("count", "<i4")])
_EVENTS = {
    record.itemsize: record
    for record in (_record(EVENT_FEATURES, items=items) for items in (1, EVENT_ITEMS))
}
"""With the very first item alone, or with all; told apart by their size."""
_STEPS = {
    name: _record(
        (spec for spec in USER_FEATURES if spec.name.startswith(f"{name}_")), of_steps=True
    )
    for name in SEQUENCES
}


class SnapshotError(Exception):
    """Bytes that are no snapshot, or one of another version of the features."""


def encode_users(users: Features) -> list[bytes]:
    """One snapshot for each user: a mark; how many cells of counts hold something, and the lengths
    of the sequences; what is in neither; these cells; the steps of each sequence."""
    counts = np.concatenate(
        [users[name].reshape(len(users[name]), -1) for name in _COUNTED], axis=1
    )
    row, cell = np.nonzero(counts)
    held = np.empty(len(row), _CELL)
    held["cell"], held["count"] = cell, counts[row, cell]
    ends = np.searchsorted(row, np.arange(len(counts) + 1)) * _CELL.itemsize
    lengths = np.stack(
        [(counts != 0).sum(1), *((users[f"{name}_kinds"] > 0).sum(1) for name in SEQUENCES)], axis=1
    )
    heads, own, cells = lengths.astype(np.uint8), _records(users, _USER), held.tobytes()
    steps = [_records(users, _STEPS[name]) for name in SEQUENCES]
    encoded = []
    for user, ((start, end), (_, *sizes)) in enumerate(
        zip(pairwise(ends.tolist()), lengths.tolist(), strict=True)
    ):
        of_steps = [part[user, :size].tobytes() for part, size in zip(steps, sizes, strict=True)]
        told = [_MARK, heads[user].tobytes(), own[user].tobytes(), cells[start:end]]
        encoded.append(b"".join([*told, *of_steps]))
    return encoded


def decode_users(snapshots: Sequence[bytes]) -> Features:
    """USER_FEATURES of snapshots, padded again. Raises SnapshotError."""
    users = {spec.name: empty(spec, len(snapshots)) for spec in USER_FEATURES}
    head = len(_MARK) + 1 + len(SEQUENCES)
    for row, data in enumerate(snapshots):
        if data[: len(_MARK)] != _MARK:
            raise SnapshotError("a snapshot of another version of the features")
        own = np.frombuffer(data, _USER, 1, head)[0]
        for name in _names(_USER):
            users[name][row] = own[name]
        offset = head + _USER.itemsize
        held, *lengths = data[len(_MARK) : head]
        offset = _decode_counts(users, row, np.frombuffer(data, _CELL, held, offset), offset)
        for sequence, length in zip(SEQUENCES, lengths, strict=True):
            steps = np.frombuffer(data, _STEPS[sequence], length, offset)
            for name in _names(steps.dtype):
                users[name][row, :length] = steps[name]
            offset += steps.nbytes
    return users


def _decode_counts(users: Features, row: int, held: NDArray[Any], offset: int) -> int:
    """Put a user's cells in their places; where they end."""
    first = 0
    for name in _COUNTED:
        cells = users[name][row].reshape(-1)  # a view
        here = (held["cell"] >= first) & (held["cell"] < first + cells.size)
        cells[held["cell"][here].astype(np.int64) - first] = held["count"][here]
        first += cells.size
    return offset + held.nbytes


def event_records(events: Features) -> NDArray[Any]:
    """Events [N] as they are stored, each in a record: the bytes of some are their snapshot."""
    one = not events["event_items"][:, 1:].any()
    return _records(events, _EVENTS[min(_EVENTS) if one else max(_EVENTS)])


def decode_event(data: bytes, position: int, count: int) -> Features:
    """Features, one row, of the event at `position` of the `count` that were encoded. Raises
    SnapshotError."""
    return rows(decode_events(data, count), slice(position, position + 1))


def decode_events(data: bytes, count: int) -> Features:
    """Features of all `count` events that were encoded. Raises SnapshotError."""
    if not count:
        return {spec.name: empty(spec, 0) for spec in EVENT_FEATURES}
    size, rest = divmod(len(data), count)
    if rest or size not in _EVENTS:
        raise SnapshotError("events of another version of the features")
    stored = np.frombuffer(data, _EVENTS[size], count)
    found = {spec.name: stored[spec.name].astype(spec.dtype) for spec in EVENT_FEATURES}
    items = np.zeros((count, EVENT_ITEMS), np.int64)
    items[:, : found["event_items"].shape[1]] = found["event_items"]
    return found | {"event_items": items}


def _records(features: Features, record: np.dtype[Any]) -> NDArray[Any]:
    """Records [U], [N] or, of steps, [U, STEPS]."""
    first, *_ = names = _names(record)
    found = np.empty(features[first].shape, record)
    for name in names:
        array = features[name]
        found[name] = array[:, : record[name].shape[0]] if name == "event_items" else array
    return found


def _names(record: np.dtype[Any]) -> tuple[str, ...]:
    assert record.names is not None
    return record.names
