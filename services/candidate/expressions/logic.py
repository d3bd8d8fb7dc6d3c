"""CEL's logic, comparisons and choices over vectors.

An error on one side of `&&` or `||` is forgotten where the other side decides alone.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.candidate.expressions.vectors import Mask, Vector, as_mask, either, select, truth

Kernel = Callable[..., Vector]

_MANY = 8


def negation(operand: Vector) -> Vector:
    """`!operand`."""
    return truth(~operand.truths, operand.errors)


def conjunction(*operands: Vector) -> Vector:
    """`a && b && …`: false where any is false, else an error where any is one."""
    values, errors = operands[0].truths, operands[0].errors
    for operand in operands[1:]:
        if errors is None and operand.errors is None:
            values = values & operand.truths
            continue
        left = values if errors is None else values | errors
        right = operand.truths if operand.errors is None else operand.truths | operand.errors
        values = values & operand.truths
        errors = (left & right) & ~values
    return Vector(values, errors)


def disjunction(*operands: Vector) -> Vector:
    """`a || b || …`: true where any is true, else an error where any is one."""
    values, errors = operands[0].truths, operands[0].errors
    for operand in operands[1:]:
        values, errors = values | operand.truths, either(errors, operand.errors)
    return Vector(values, None if errors is None else errors & ~values)


def exactly_one(*operands: Vector) -> Vector:
    """True where one operand is; an error where any is."""
    count = operands[0].truths.astype(np.int32)
    for operand in operands[1:]:
        count = count + operand.truths
    return truth(count == 1, either(*(operand.errors for operand in operands)))


def choice(condition: Vector, chosen: Vector, other: Vector) -> Vector:
    """`condition ? chosen : other`; errors of the side that isn't chosen don't count."""
    errors = condition.errors
    if chosen.errors is not None:
        errors = either(errors, condition.truths & chosen.errors)
    if other.errors is not None:
        errors = either(errors, ~condition.truths & other.errors)
    return _failing(Vector(select(condition.truths, chosen, other)), errors)


def requiring(result: Vector, *others: Vector) -> Vector:
    """`result`, an error also where any of the others is."""
    return _failing(result, either(result.errors, *(other.errors for other in others)))


def _failing(result: Vector, errors: Mask | None) -> Vector:
    """The result's values with other errors."""
    if isinstance(result.values, np.ndarray) and result.values.dtype == np.bool_:
        return truth(result.truths, errors)
    return Vector(result.values, errors)


def switch(key: Vector, *pairs: Vector) -> Vector:
    """The value whose key equals `key`, of pairs key, value, key, value …; an error where there is
    none. As in a literal, any error among the pairs is one of the whole."""
    matched: Mask = np.zeros(1, np.bool_)
    result = Vector(pairs[1].values)
    for candidate, value in zip(pairs[::2], pairs[1::2], strict=True):
        hit = equal(key, candidate).truths
        result = Vector(select(hit, value, result))
        matched = matched | hit
    return requiring(Vector(result.values, ~matched), key, *pairs)


def _comparison(numeric: Callable[[Any, Any], Any], textual: Callable[[Any, Any], Any]) -> Kernel:
    def kernel(left: Vector, right: Vector) -> Vector:
        errors = either(left.errors, right.errors)
        if isinstance(left.values, np.ndarray):
            return truth(numeric(left.values, right.values), errors)
        return truth(as_mask(textual(left.operand, right.operand)), errors)

    return kernel


equal = _comparison(operator.eq, pc.equal)
less = _comparison(operator.lt, pc.less)
less_or_equal = _comparison(operator.le, pc.less_equal)
greater = _comparison(operator.gt, pc.greater)
greater_or_equal = _comparison(operator.ge, pc.greater_equal)


def member(operand: Vector, *elements: Vector) -> Vector:
    """`operand in [elements]`; any error among the elements is one of the whole."""
    found = _found_in_set(operand, elements)
    if found is None:
        found = disjunction(
            *(equal(operand, Vector(element.values)) for element in elements)
        ).truths
    return requiring(Vector(found), operand, *elements)


def _found_in_set(operand: Vector, elements: tuple[Vector, ...]) -> Mask | None:
    """The same by one look-up, for many elements that are the same for all rows; None for others,
    and for doubles, since NaN is in no list."""
    if len(elements) < _MANY or any(len(element.values) > 1 for element in elements):
        return None
    if not isinstance(operand.values, np.ndarray):
        values = pa.concat_arrays([element.texts for element in elements])
        return as_mask(pc.is_in(operand.texts, value_set=values))
    if operand.values.dtype == np.float64:
        return None
    return np.isin(operand.values, np.concatenate([element.numbers for element in elements]))
