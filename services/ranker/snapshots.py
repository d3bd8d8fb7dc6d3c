"""Snapshots: the features of one user and of their events, as bytes."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.batch import rows
from services.ranker.features.schema import (
    EVENT_FEATURES,
    SEQUENCES,
    STEPS,
    USER_FEATURES,
    Features,
    FeatureSpec,
    empty,
    schema_hash,
)

_MARK = b"hsn2" + bytes.fromhex(schema_hash())


def _record(specs: Iterable[FeatureSpec], *, of_steps: bool = False) -> np.dtype[Any]:
    """One user, event, or step, as it is stored: its features one after the other."""
    return np.dtype(
        [
            (spec.name, np.dtype(spec.dtype).newbyteorder("<"), () if of_steps else spec.shape)
            for spec in specs
        ]
    )


_USER = _record(spec for spec in USER_FEATURES if spec.shape != (STEPS,))
_EVENT = _record(EVENT_FEATURES)
_STEPS = {
    name: _record(
        (spec for spec in USER_FEATURES if spec.name.startswith(f"{name}_")), of_steps=True
    )
    for name in SEQUENCES
}


class SnapshotError(Exception):
    """Bytes that are no snapshot, or one of another version of the features."""


def encode_users(users: Features) -> list[bytes]:
    """One snapshot for each user: a mark, the lengths of the sequences, what isn't in a sequence,
    the steps of each sequence."""
    lengths = np.stack([(users[f"{name}_kinds"] > 0).sum(1) for name in SEQUENCES], axis=1)
    heads, own = lengths.astype(np.uint8), _records(users, _USER)
    steps = [_records(users, _STEPS[name]) for name in SEQUENCES]
    encoded = []
    for row, counts in enumerate(lengths.tolist()):
        parts = [part[row, :count].tobytes() for part, count in zip(steps, counts, strict=True)]
        encoded.append(b"".join([_MARK, heads[row].tobytes(), own[row].tobytes(), *parts]))
    return encoded


def decode_users(snapshots: Sequence[bytes]) -> Features:
    """USER_FEATURES of snapshots, padded again. Raises SnapshotError."""
    users = {spec.name: empty(spec, len(snapshots)) for spec in USER_FEATURES}
    head = len(_MARK) + len(SEQUENCES)
    for row, data in enumerate(snapshots):
        if data[: len(_MARK)] != _MARK:
            raise SnapshotError("a snapshot of another version of the features")
        own = np.frombuffer(data, _USER, 1, head)[0]
        for name in _names(_USER):
            users[name][row] = own[name]
        offset = head + _USER.itemsize
        for sequence, length in zip(SEQUENCES, data[len(_MARK) : head], strict=True):
            steps = np.frombuffer(data, _STEPS[sequence], length, offset)
            for name in _names(steps.dtype):
                users[name][row, :length] = steps[name]
            offset += steps.nbytes
    return users


def event_records(events: Features) -> NDArray[Any]:
    """Events [N] as they are stored, each in a record: the bytes of some are their snapshot."""
    return _records(events, _EVENT)


def decode_event(data: bytes, position: int, count: int) -> Features:
    """Features, one row, of the event at `position` of the `count` that were encoded."""
    return rows(decode_events(data, count), slice(position, position + 1))


def decode_events(data: bytes, count: int) -> Features:
    """Features of all `count` events that were encoded."""
    found = np.frombuffer(data, _EVENT, count)
    return {spec.name: found[spec.name].astype(spec.dtype) for spec in EVENT_FEATURES}


def _records(features: Features, record: np.dtype[Any]) -> NDArray[Any]:
    """Records [U], [N] or, of steps, [U, STEPS]."""
    first, *_ = names = _names(record)
    found = np.empty(features[first].shape, record)
    for name in names:
        found[name] = features[name]
    return found


def _names(record: np.dtype[Any]) -> tuple[str, ...]:
    assert record.names is not None
    return record.names
