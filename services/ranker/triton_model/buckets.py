"""The sizes a run of the model is padded to, and the fixed arrays of one size.

Every array of a bucket keeps its address and its shape from start to end, which the capture of a
CUDA graph asks for. A bucket has one user more than fit into it: a reserved user without history,
whom the padded events belong to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

USER_ROW = "user_row"
OUTPUTS = ("scores", "logits")


class BadInputs(ValueError):
    """Inputs that the model must not see: their shapes, types or indices are wrong."""


def tokens(users: int, events: int, steps: int) -> int:
    """Tokens that go through transformer blocks, as a measure of the work: three sequences with
    their summary per user, nine tokens per event."""
    return 3 * users * (steps + 1) + 9 * events


@dataclass(frozen=True)
class Bucket:
    """How much fits into one run. `items` counts the zeros in row 0 too."""

    users: int
    events: int
    steps: int
    items: int

    @property
    def tokens(self) -> int:
        """See `tokens`."""
        return tokens(self.users, self.events, self.steps)

    @property
    def axes(self) -> dict[str, int]:
        """Dimensions of the model by name, the reserved user included."""
        return {
            "users": self.users + 1,
            "events": self.events,
            "steps": self.steps,
            "items": self.items,
        }

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether inputs of these sizes, by axis, fit."""
        return (
            sizes["users"] <= self.users
            and sizes["events"] <= self.events
            and sizes["steps"] <= self.steps
            and sizes["items"] <= self.items
        )


@dataclass(frozen=True)
class Input:
    """One input of the model: a dimension is a number or the name of an axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    limit: int | str | None = None
    """Values are indices in 0 … limit − 1; a text names the axis they point into."""

    def sizes(self, axes: Mapping[str, int]) -> list[int]:
        """The shape where the axes have these sizes."""
        return [axes[axis] if isinstance(axis, str) else axis for axis in self.shape]

    def end(self, axes: Mapping[str, int]) -> int | None:
        """The limit where the axes have these sizes."""
        return axes[self.limit] if isinstance(self.limit, str) else self.limit


def measured(inputs: Sequence[Input], arrays: Arrays) -> dict[str, int]:
    """The size of each axis. Raises BadInputs when shapes, types or indices don't agree."""
    sizes: dict[str, int] = {}
    for each in inputs:
        array = arrays[each.name]
        if array.dtype != each.dtype or array.ndim != len(each.shape):
            raise BadInputs(
                f"{each.name} is {array.dtype} in {array.ndim} dimensions, "
                f"not {each.dtype} in {len(each.shape)}"
            )
        for axis, size in zip(each.shape, array.shape, strict=True):
            wanted = sizes.setdefault(axis, size) if isinstance(axis, str) else axis
            if size != wanted or size == 0:
                raise BadInputs(f"{each.name} has {size} {axis}, not {wanted}")
    for each in inputs:
        if (end := each.end(sizes)) is not None:
            array = arrays[each.name]
            if array.min() < 0 or array.max() >= end:
                raise BadInputs(f"{each.name} has a value outside of 0 … {end - 1}")
    return sizes


def smallest(buckets: Sequence[Bucket], sizes: Mapping[str, int]) -> int:
    """Position of the bucket with the least work among those that hold the sizes.

    Raises BadInputs when none does.
    """
    fitting = [position for position, each in enumerate(buckets) if each.holds(sizes)]
    if not fitting:
        asked = ", ".join(f"{size} {axis}" for axis, size in sorted(sizes.items()))
        raise BadInputs(f"no bucket holds {asked}")
    return min(fitting, key=lambda position: buckets[position].tokens)


class Buffers:
    """The padded inputs of one bucket."""

    def __init__(self, inputs: Sequence[Input], bucket: Bucket) -> None:
        self.arrays = {each.name: np.zeros(each.sizes(bucket.axes), each.dtype) for each in inputs}
        self._written: dict[str, tuple[slice, ...]] = {}
        self._reserved = bucket.users
        self.arrays[USER_ROW][:] = self._reserved

    def fill(self, arrays: Arrays) -> None:
        """Copy checked inputs in. What the run before left behind becomes padding again."""
        for name, buffer in self.arrays.items():
            if name in self._written:
                buffer[self._written[name]] = self._reserved if name == USER_ROW else 0
            part = tuple(slice(size) for size in arrays[name].shape)
            buffer[part] = arrays[name]
            self._written[name] = part
