"""Snapshots: the features of one user and of their events, as bytes."""

from collections.abc import Sequence

import numpy as np

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

_MARK = b"hsn1" + bytes.fromhex(schema_hash())


class SnapshotError(Exception):
    """Bytes that are no snapshot, or one of another version of the features."""


def encode_users(users: Features) -> list[bytes]:
    """One snapshot for each user: a mark, the lengths of the sequences, the arrays' rows."""
    arrays = {spec.name: _little_endian(users, spec) for spec in USER_FEATURES}
    lengths = {name: (users[f"{name}_kinds"] > 0).sum(1).tolist() for name in SEQUENCES}
    encoded = []
    for row in range(len(users["segment"])):
        parts = [_MARK, bytes(lengths[name][row] for name in SEQUENCES)]
        for spec in USER_FEATURES:
            values = arrays[spec.name][row]
            if spec.shape == (STEPS,):
                values = values[: lengths[spec.name.split("_")[0]][row]]
            parts.append(values.tobytes())
        encoded.append(b"".join(parts))
    return encoded


def decode_users(snapshots: Sequence[bytes]) -> Features:
    """USER_FEATURES of snapshots, padded again. Raises SnapshotError."""
    users = {spec.name: empty(spec, len(snapshots)) for spec in USER_FEATURES}
    head = len(_MARK) + len(SEQUENCES)
    for row, data in enumerate(snapshots):
        if data[: len(_MARK)] != _MARK:
            raise SnapshotError("a snapshot of another version of the features")
        lengths = dict(zip(SEQUENCES, data[len(_MARK) : head], strict=True))
        offset = head
        for spec in USER_FEATURES:
            is_sequence = spec.shape == (STEPS,)
            length = lengths[spec.name.split("_")[0]] if is_sequence else int(np.prod(spec.shape))
            dtype = np.dtype(spec.dtype).newbyteorder("<")
            values = np.frombuffer(data, dtype, length, offset)
            if is_sequence:
                users[spec.name][row, :length] = values
            else:
                users[spec.name][row] = values.reshape(spec.shape)
            offset += values.nbytes
    return users


def encode_events(events: Features, index: Sequence[int]) -> bytes:
    """The features of the events at these positions."""
    at = np.asarray(index, np.int64)
    return b"".join(_little_endian(events, spec)[at].tobytes() for spec in EVENT_FEATURES)


def decode_event(data: bytes, position: int, count: int) -> Features:
    """Features, one row, of the event at `position` of the `count` that were encoded."""
    return rows(decode_events(data, count), slice(position, position + 1))


def decode_events(data: bytes, count: int) -> Features:
    """Features of all `count` events that were encoded, not to be written to."""
    features: Features = {}
    offset = 0
    for spec in EVENT_FEATURES:
        dtype = np.dtype(spec.dtype).newbyteorder("<")
        size = int(np.prod(spec.shape))
        values = np.frombuffer(data, dtype, size * count, offset).reshape(count, *spec.shape)
        features[spec.name] = values.astype(spec.dtype, copy=False)
        offset += values.nbytes
    return features


def _little_endian(features: Features, spec: FeatureSpec) -> np.ndarray:
    return features[spec.name].astype(np.dtype(spec.dtype).newbyteorder("<"), copy=False)
