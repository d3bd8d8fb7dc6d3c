"""Values of one part of an expression for many rows, and which of them are errors."""

from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Values = NDArray[np.generic] | pa.LargeStringArray
Index = NDArray[np.integer]

T = TypeVar("T", bound=np.generic)

_MAX_COMPARED_CODES = 3


@dataclass(frozen=True, eq=False, slots=True)
class Vector:
    """One value per row, or a single one that holds for all rows.

    Where a row is an error its value means nothing, but for truths it is False: so the rows that
    are true are `values`, and those that are false are in neither `values` nor `errors`.
    """

    values: Values
    """Truths as bool, times and spans of time as int64 microseconds, texts in Arrow's form."""
    errors: Mask | None = None
    """None: no row is an error."""

    @property
    def truths(self) -> Mask:
        """The values of a vector of truths."""
        assert isinstance(self.values, np.ndarray)
        return self.values.view(np.bool_)

    @property
    def numbers(self) -> NDArray[Any]:
        """The values of a vector of anything but texts."""
        assert isinstance(self.values, np.ndarray)
        return self.values

    @property
    def texts(self) -> pa.LargeStringArray:
        """The values of a vector of texts."""
        assert isinstance(self.values, pa.LargeStringArray)
        return self.values

    @property
    def operand(self) -> Any:
        """A vector of texts as Arrow's functions of two want it."""
        return self.texts[0] if len(self.texts) == 1 else self.texts


def truth(values: Mask, errors: Mask | None) -> Vector:
    """A vector of truths, False where it is an error."""
    return Vector(values if errors is None else values & ~errors, errors)


def either(*masks: Mask | None) -> Mask | None:
    """Rows that are in any of the masks."""
    union: Mask | None = None
    for mask in masks:
        if mask is not None:
            union = mask if union is None else union | mask
    return union


def as_mask(found: Any) -> Mask:
    """What an Arrow function of texts found, as NumPy's truths."""
    if isinstance(found, pa.Scalar):
        return np.array([found.as_py()], np.bool_)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.bool_)


def as_texts(made: Any) -> pa.LargeStringArray:
    """What an Arrow function made of texts, as values of a vector."""
    texts = pa.array([made.as_py()], pa.large_string()) if isinstance(made, pa.Scalar) else made
    assert isinstance(texts, pa.LargeStringArray)
    return texts


def take_texts(texts: pa.LargeStringArray, index: Index) -> pa.LargeStringArray:
    """The texts at the index."""
    return as_texts(texts.take(cast(Any, pa.array(index))))


def select(condition: Mask, chosen: Vector, other: Vector) -> Values:
    """Values of `chosen` where the condition holds, else those of `other`."""
    if isinstance(chosen.values, np.ndarray):
        return np.where(condition, chosen.values, other.numbers)
    mask: Any = pa.scalar(bool(condition[0])) if len(condition) == 1 else pa.array(condition)
    return as_texts(pc.if_else(mask, chosen.operand, other.operand))


def gather(vector: Vector, index: Index) -> Vector:
    """The vector's rows at `index`; a single value stays one."""
    if len(vector.values) == 1:
        return vector
    errors = None if vector.errors is None else _gather_mask(vector.errors, index)
    if errors is not None and not errors.any():
        errors = None
    if not isinstance(vector.values, np.ndarray):
        return Vector(take_texts(vector.values, index), errors)
    if vector.values.dtype == np.bool_:
        return Vector(_gather_mask(vector.truths, index), errors)
    return Vector(_take(vector.values, index), errors)


def _gather_mask(mask: Mask, index: Index) -> Mask:
    """As `mask[index]`; by comparing where the index is in bytes and few entries are set."""
    if len(mask) == 1:
        return mask
    if index.dtype == np.uint8:
        entries = np.nonzero(mask)[0].tolist()
        if len(entries) <= _MAX_COMPARED_CODES:
            found = index == entries[0] if entries else np.zeros(len(index), np.bool_)
            for entry in entries[1:]:
                found |= index == entry
            return found
    return _take(mask, index)


def _take(values: NDArray[T], index: Index) -> NDArray[T]:
    """As `values[index]`; several times faster for a small type of index that is widened first."""
    return values.take(index.astype(np.intp, copy=False), mode="clip")
