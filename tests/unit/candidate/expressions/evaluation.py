"""An expression's values by columns and by the library, in one form that can be compared: plain
Python values, times and spans of time in microseconds, FAILED for an error."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from services.candidate.expressions.program import compile_expression
from services.candidate.expressions.values import microseconds
from services.candidate.expressions.vectors import Values
from tests.unit.candidate.expressions.reference import FAILED, reference
from tests.unit.candidate.expressions.users import NOW, SCHEMA, User, table


def evaluated(text: str, users: Sequence[User]) -> list[Any]:
    """The values that columnwise evaluation gives."""
    results: list[Any] = []
    for part, found in compile_expression(text, SCHEMA).parts(table(users), NOW):
        size = part.stop - part.start
        values = _spread(found.values, size)
        errors = [False] * size if found.errors is None else _spread(found.errors, size)
        pairs = zip(values, errors, strict=True)
        results += [FAILED if error else _plain(value) for value, error in pairs]
    return results


def expected(text: str, users: Sequence[User]) -> list[Any]:
    """The values that the library gives, row by row."""
    return [_plain(value) for value in reference(text, users)]


def _spread(values: Values, size: int) -> list[Any]:
    listed: list[Any] = values.tolist()
    return listed * size if len(listed) == 1 else listed


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return microseconds(value)
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    return "NaN" if isinstance(value, float) and math.isnan(value) else value
