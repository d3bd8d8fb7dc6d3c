"""The greatest factor that a booster can give: interval arithmetic over its expression.

Of what is not arithmetic or a choice only the bound of all factors is known, which costs time only:
see `judging`.
"""

import operator
from collections.abc import Callable, Mapping
from math import inf, isnan
from typing import Any

import numpy as np

from services.candidate.expressions import AttributeType, BoosterProgram, Columns, logic, numbers
from services.candidate.expressions.columns import CollectionColumn, PlainColumn
from services.candidate.expressions.nodes import Attribute, Call, Constant, FoundEntry, Node

Interval = tuple[float, float]
"""Ends of a closed interval. Those of whole numbers are whole numbers, so they are exact; those of
doubles are rounded as the values are, which keeps their order."""

ANYTHING: Interval = (-inf, inf)
FACTOR_OF_ERRORS = 1.0
_NUMBERS = (AttributeType.INT, AttributeType.DOUBLE)
_OPERATIONS: Mapping[object, Callable[[Any, Any], Any]] = {
    numbers.add_ints: operator.add,
    numbers.add_doubles: operator.add,
    numbers.subtract_ints: operator.sub,
    numbers.subtract_doubles: operator.sub,
    numbers.multiply_ints: operator.mul,
    numbers.multiply_doubles: operator.mul,
    numbers.divide_doubles: operator.truediv,
}


def greatest_factor(booster: BoosterProgram, columns: Columns) -> float:
    """No row of the table gets a greater factor."""
    greatest = max(_interval(booster.root, columns)[1], FACTOR_OF_ERRORS)
    return min(greatest, numbers.GREATEST_FACTOR)


def _interval(node: Node, columns: Columns) -> Interval:
    """What a number's values lie in, where they are no errors."""
    match node:
        case Constant(type=kind, value=int() | float() as value) if kind in _NUMBERS:
            return _interval_of(value, value)
        case Attribute(type=kind, name=name) if kind in _NUMBERS:
            column = columns.columns[name]
            assert isinstance(column, PlainColumn)
            return _range(column.values)
        case FoundEntry(variable=variable):
            entries = columns.columns[variable.collection]
            assert isinstance(entries, CollectionColumn)
            return _range(entries.values)
        case Call(kernel=kernel, arguments=arguments):
            return _of_call(kernel, arguments, columns)
        case _:
            return ANYTHING


def _of_call(kernel: object, arguments: tuple[Node, ...], columns: Columns) -> Interval:
    if kernel is logic.choice:
        return _union([_interval(node, columns) for node in arguments[1:]])
    if kernel is logic.switch:
        return _union([_interval(node, columns) for node in arguments[2::2]])
    if kernel in (numbers.factor, numbers.same, logic.requiring):
        return _interval(arguments[0], columns)
    if kernel is numbers.int_to_double:
        low, high = _interval(arguments[0], columns)
        return float(low), float(high)
    if kernel in _OPERATIONS:
        left, right = (_interval(node, columns) for node in arguments)
        return _combined(_OPERATIONS[kernel], left, right)
    return ANYTHING


def _combined(operation: Callable[[Any, Any], Any], left: Interval, right: Interval) -> Interval:
    """Of operations that are monotone in each operand while the divisor keeps its sign."""
    if operation is operator.truediv and right[0] <= 0 <= right[1]:
        return ANYTHING
    ends = [operation(a, b) for a in left for b in right]
    return ANYTHING if any(isnan(end) for end in ends) else (min(ends), max(ends))


def _union(intervals: list[Interval]) -> Interval:
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def _range(values: Any) -> Interval:
    """Least and greatest value of a column."""
    if not len(values):
        return ANYTHING
    return _interval_of(np.min(values).item(), np.max(values).item())


def _interval_of(low: float, high: float) -> Interval:
    return ANYTHING if isnan(low) or isnan(high) else (low, high)
