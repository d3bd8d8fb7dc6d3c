"""CEL's times and spans of time over vectors, in int64 microseconds."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.candidate.expressions.vectors import Mask, Vector, either
from services.candidate.expressions.zones import local_time

Ints = NDArray[np.int64]
Kernel = Callable[[Vector], Vector]

SECOND = 10**6
DAY = 86_400 * SECOND
_FIRST = -62_135_596_800 * SECOND
_LAST = 253_402_300_800 * SECOND - 1
_LONGEST = (2**63 - 1) // 1000
"""CEL reckons with spans of time in int64 nanoseconds."""


def _times(values: Ints, errors: Mask | None) -> Vector:
    return _within(values, _FIRST, _LAST, errors)


def _within(values: Ints, lowest: int, highest: int, errors: Mask | None) -> Vector:
    wrong = (values < lowest) | (values > highest)
    return Vector(values, either(errors, wrong if wrong.any() else None))


def _ints(operand: Vector) -> Ints:
    return operand.numbers


def _span(operand: Vector) -> Vector:
    """A span of time to reckon with; one that nanoseconds can't hold is an error."""
    return _within(_ints(operand), -_LONGEST, _LONGEST, operand.errors)


def add_span(time: Vector, span: Vector) -> Vector:
    """Time plus span."""
    span = _span(span)
    return _times(_ints(time) + _ints(span), either(time.errors, span.errors))


def add_time(span: Vector, time: Vector) -> Vector:
    """Span plus time."""
    return add_span(time, span)


def subtract_span(time: Vector, span: Vector) -> Vector:
    """Time minus span."""
    span = _span(span)
    return _times(_ints(time) - _ints(span), either(time.errors, span.errors))


def subtract_time(left: Vector, right: Vector) -> Vector:
    """The span from `right` to `left`."""
    errors = either(left.errors, right.errors)
    return _span(Vector(_ints(left) - _ints(right), errors))


def add_spans(left: Vector, right: Vector) -> Vector:
    """Span plus span."""
    left, right = _span(left), _span(right)
    return _span(Vector(_ints(left) + _ints(right), either(left.errors, right.errors)))


def subtract_spans(left: Vector, right: Vector) -> Vector:
    """Span minus span."""
    left, right = _span(left), _span(right)
    return _span(Vector(_ints(left) - _ints(right), either(left.errors, right.errors)))


def time_to_int(operand: Vector) -> Vector:
    """Whole seconds since 1970."""
    return Vector(_ints(operand) // SECOND, operand.errors)


def int_to_time(operand: Vector) -> Vector:
    """Time from whole seconds since 1970."""
    seconds = _ints(operand)
    wrong = (seconds < _FIRST // SECOND) | (seconds > _LAST // SECOND)
    errors = either(operand.errors, wrong if wrong.any() else None)
    return Vector(np.where(wrong, 0, seconds) * SECOND, errors)


def _days(local: Ints) -> NDArray[np.datetime64]:
    return (local // DAY).view("datetime64[D]")


def _day_of_month(local: Ints) -> NDArray[Any]:
    days = _days(local)
    since: NDArray[Any] = days - days.astype("datetime64[M]")
    return since.view(np.int64)


def _day_of_year(local: Ints) -> NDArray[Any]:
    days = _days(local)
    since: NDArray[Any] = days - days.astype("datetime64[Y]")
    return since.view(np.int64)


_PARTS: dict[str, Callable[[Ints], NDArray[Any]]] = {
    "getFullYear": lambda local: _days(local).astype("datetime64[Y]").view(np.int64) + 1970,
    "getMonth": lambda local: _days(local).astype("datetime64[M]").view(np.int64) % 12,
    "getDate": lambda local: _day_of_month(local) + 1,
    "getDayOfMonth": _day_of_month,
    "getDayOfYear": _day_of_year,
    "getDayOfWeek": lambda local: (local // DAY + 4) % 7,
    "getHours": lambda local: local % DAY // (3600 * SECOND),
    "getMinutes": lambda local: local % (3600 * SECOND) // (60 * SECOND),
    "getSeconds": lambda local: local % (60 * SECOND) // SECOND,
    "getMilliseconds": lambda local: local % SECOND // 1000,
}
_SPAN_UNITS = {"getHours": 3600 * SECOND, "getMinutes": 60 * SECOND, "getSeconds": SECOND}

TIME_PARTS = frozenset(_PARTS)
SPAN_PARTS = frozenset([*_SPAN_UNITS, "getMilliseconds"])


def time_part(part_and_zone: tuple[str, str], operand: Vector) -> Vector:
    """A part of the time in a zone, e.g. ("getHours", "Europe/Prague"). Months, days of the week
    (from Sunday), of the month and of the year count from 0; `getDate` counts from 1."""
    part, zone = part_and_zone
    return Vector(_PARTS[part](local_time(_ints(operand), zone)), operand.errors)


def span_part(part: str, operand: Vector) -> Vector:
    """The whole span in hours, minutes or seconds, or its milliseconds beyond the last second; all
    rounded towards zero."""
    span = _ints(operand)
    if part == "getMilliseconds":
        return Vector(_towards_zero(np.fmod(span, SECOND), 1000), operand.errors)
    return Vector(_towards_zero(span, _SPAN_UNITS[part]), operand.errors)


def _towards_zero(span: Ints, unit: int) -> Ints:
    return (span - np.fmod(span, unit)) // unit
