"""CEL's arithmetic over vectors: overflow and division by zero are errors of their rows."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.candidate.expressions.vectors import Mask, Vector, as_texts, either

Ints = NDArray[np.int64]
Kernel = Callable[..., Vector]

GREATEST_FACTOR = 1e6
"""Of a booster: a float32 holds a relevance times this, and whatever may lower it, without loss of
the order."""
_LOWEST = np.iinfo(np.int64).min
_SURELY_SAFE = 2.0**62


def _result(values: NDArray[Any], wrong: Mask | None, *operands: Vector) -> Vector:
    failed = wrong if wrong is not None and wrong.any() else None
    return Vector(values, either(failed, *(operand.errors for operand in operands)))


def _ints(operand: Vector) -> Ints:
    return operand.numbers


def add_ints(left: Vector, right: Vector) -> Vector:
    """`left + right`."""
    a, b = _ints(left), _ints(right)
    total = a + b
    return _result(total, ((a ^ total) & (b ^ total)) < 0, left, right)


def subtract_ints(left: Vector, right: Vector) -> Vector:
    """`left - right`."""
    a, b = _ints(left), _ints(right)
    difference = a - b
    return _result(difference, ((a ^ b) & (a ^ difference)) < 0, left, right)


def multiply_ints(left: Vector, right: Vector) -> Vector:
    """`left * right`."""
    a, b = np.broadcast_arrays(_ints(left), _ints(right))
    product = a * b
    doubtful = np.abs(a.astype(np.float64) * b) >= _SURELY_SAFE
    if not doubtful.any():
        return _result(product, None, left, right)
    wrong = np.zeros(len(product), np.bool_)
    exact = a[doubtful].astype(object) * b[doubtful].astype(object)
    wrong[doubtful] = exact != product[doubtful].astype(object)
    return _result(product, wrong, left, right)


def divide_ints(left: Vector, right: Vector) -> Vector:
    """Rounds towards zero."""
    a, b, wrong = _divisible(left, right)
    return _result((a - np.fmod(a, b)) // b, wrong, left, right)


def modulo_ints(left: Vector, right: Vector) -> Vector:
    """Has the sign of the dividend."""
    a, b, wrong = _divisible(left, right)
    return _result(np.fmod(a, b), wrong, left, right)


def _divisible(left: Vector, right: Vector) -> tuple[Ints, Ints, Mask]:
    """Operands in which a divisor that would fail is 1, and where that is."""
    a, b = _ints(left), _ints(right)
    wrong = (b == 0) | ((a == _LOWEST) & (b == -1))
    return a, np.where(wrong, 1, b), wrong


def negate_ints(operand: Vector) -> Vector:
    """`-operand`."""
    values = _ints(operand)
    return _result(-values, values == _LOWEST, operand)


def _doubles(operation: Callable[..., Any]) -> Kernel:
    def kernel(*operands: Vector) -> Vector:
        return _result(operation(*(operand.numbers for operand in operands)), None, *operands)

    return kernel


add_doubles = _doubles(operator.add)
subtract_doubles = _doubles(operator.sub)
multiply_doubles = _doubles(operator.mul)
divide_doubles = _doubles(operator.truediv)
negate_doubles = _doubles(operator.neg)


def same(operand: Vector) -> Vector:
    """Conversion of a value to the type that it has."""
    return operand


def int_to_double(operand: Vector) -> Vector:
    """The nearest double."""
    return Vector(operand.numbers.astype(np.float64), operand.errors)


def double_to_int(operand: Vector) -> Vector:
    """Cuts off the fraction. Both ends of the range are errors, as in Google's library."""
    values = operand.numbers
    wrong = ~((values > -(2.0**63)) & (values < 2.0**63))
    return _result(np.where(wrong, 0, values).astype(np.int64), wrong, operand)


def to_text(operand: Vector) -> Vector:
    """Whole numbers in decimal, truths as true and false."""
    return Vector(as_texts(pc.cast(pa.array(operand.numbers), pa.large_string())), operand.errors)


def factor(operand: Vector) -> Vector:
    """A number as a booster, at most GREATEST_FACTOR: an error where it isn't finite or is below
    0."""
    values = operand.numbers.astype(np.float64, copy=False)
    wrong = ~((values >= 0) & (values < np.inf))
    return _result(np.minimum(values, GREATEST_FACTOR), wrong, operand)
