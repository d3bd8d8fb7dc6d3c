"""One call's prepared inputs as bytes: the sizes of the axes, then the arrays one after another.

Reading it costs no copy. Larger numbers come first, so that every array is aligned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
AXES = ("users", "events", "steps", "items")
USER_ROW = "user_row"
ITEMS = "items"
_SIZES = np.dtype("<i4")


@dataclass(frozen=True)
class Input:
    """One array: a dimension is a number or the name of one of AXES; `points_to`: the axis that
    its values are rows of, where there is one."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    points_to: str | None


def ordered(inputs: Sequence[Input]) -> list[Input]:
    """In the order in which they travel."""
    return sorted(inputs, key=lambda each: -np.dtype(each.dtype).itemsize)


def pack(inputs: Sequence[Input], arrays: Arrays) -> bytes:
    """The bytes of a call."""
    sizes = {
        axis: size
        for each in inputs
        for axis, size in zip(each.shape, arrays[each.name].shape, strict=True)
    }
    head = np.array([sizes[axis] for axis in AXES], _SIZES)
    return b"".join([head.tobytes(), *(arrays[each.name].tobytes() for each in ordered(inputs))])


def unpack(inputs: Sequence[Input], body: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of a call, over its bytes. Raises ValueError when they are too few."""
    sizes = dict(zip(AXES, np.frombuffer(body, _SIZES, len(AXES)).tolist(), strict=True))
    place = len(AXES) * _SIZES.itemsize
    arrays = {}
    for each in ordered(inputs):
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in each.shape]
        count = int(np.prod(shape))
        arrays[each.name] = np.frombuffer(body, each.dtype, count, place).reshape(shape)
        place += arrays[each.name].nbytes
    return arrays


def merge(inputs: Sequence[Input], calls: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """The arrays of several calls as one: users, events and items one after the other, sequences
    padded to the longest, what points to users or items shifted. Item 0 stays "none"."""
    if len(calls) == 1:
        return dict(calls[0])
    users = _starts([len(call["segment"]) for call in calls])
    items = _starts([len(call[ITEMS]) for call in calls])
    merged = {}
    for each in inputs:
        parts = [call[each.name] for call in calls]
        if each.points_to == "users":
            parts = [part + start for part, start in zip(parts, users, strict=True)]
        elif each.points_to == ITEMS:
            parts = [
                np.where(part > 0, part + start, 0).astype(part.dtype)
                for part, start in zip(parts, items, strict=True)
            ]
        merged[each.name] = _together(parts)
    return merged


def _starts(sizes: Sequence[int]) -> list[Any]:
    return list((np.cumsum(sizes) - sizes).astype(np.int32))


def _together(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    if parts[0].ndim < 2 or len({part.shape[1] for part in parts}) == 1:
        return np.concatenate(parts)
    longest = max(part.shape[1] for part in parts)
    whole = np.zeros((sum(map(len, parts)), longest), parts[0].dtype)
    row = 0
    for part in parts:
        whole[row : row + len(part), : part.shape[1]] = part
        row += len(part)
    return whole
