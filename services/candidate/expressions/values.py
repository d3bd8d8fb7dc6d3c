"""Users' attributes as they come: from messages, or as plain Python values."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.type.v1alpha1 import attribute_pb2

from services.candidate.expressions.schema import AttributeType

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Raw = str | float | int | bool | list[str] | dict[str, float]


class TypedValue(NamedTuple):
    """A value of an attribute."""

    type: AttributeType
    raw: Raw
    """Times in microseconds since 1970 (UTC), spans of time in microseconds."""


_READERS: dict[str, tuple[AttributeType, Callable[[attribute_pb2.AttributeValue], Raw]]] = {
    "string_value": (AttributeType.STRING, lambda message: message.string_value),
    "number_value": (AttributeType.DOUBLE, lambda message: message.number_value),
    "int_value": (AttributeType.INT, lambda message: message.int_value),
    "bool_value": (AttributeType.BOOL, lambda message: message.bool_value),
    "time_value": (AttributeType.TIMESTAMP, lambda message: _time(message.time_value)),
    "duration_value": (AttributeType.DURATION, lambda message: _span(message.duration_value)),
    "list_value": (AttributeType.STRING_LIST, lambda message: list(message.list_value.values)),
    "map_value": (AttributeType.NUMBER_MAP, lambda message: dict(message.map_value.values)),
}


def _time(time: Timestamp) -> int:
    return time.seconds * 10**6 + time.nanos // 1000


def _span(span: Duration) -> int:
    return span.seconds * 10**6 + int(span.nanos / 1000)


def read_value(message: attribute_pb2.AttributeValue) -> TypedValue | None:
    """The value of a message; None if it holds none. Times and spans of time are cut down to whole
    microseconds, as Postgres keeps them."""
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    value_type, read = _READERS[kind]
    return TypedValue(value_type, read(message))


def value_type(message: attribute_pb2.AttributeValue) -> AttributeType:
    """The type of a message that holds a value."""
    return _READERS[message.WhichOneof("kind") or ""][0]


def read_values(
    attributes: Mapping[str, attribute_pb2.AttributeValue],
) -> dict[str, TypedValue]:
    """The values of a user's attributes."""
    read = ((name, read_value(message)) for name, message in attributes.items())
    return {name: value for name, value in read if value is not None}


def converted(value: TypedValue, kind: AttributeType) -> TypedValue | None:
    """The value as one of another type; None where that is not exact. Whole numbers and doubles
    that are equal are one another."""
    if value.type is kind:
        return value
    raw = value.raw
    if value.type is AttributeType.INT and kind is AttributeType.DOUBLE:
        assert isinstance(raw, int)
        return TypedValue(kind, float(raw)) if int(float(raw)) == raw else None
    if value.type is AttributeType.DOUBLE and kind is AttributeType.INT:
        assert isinstance(raw, float)
        whole = raw.is_integer() and -(2**63) <= raw < 2**63
        return TypedValue(kind, int(raw)) if whole else None
    return None


def typed_value(
    value: str | float | int | bool | datetime | timedelta | list[str] | Mapping[str, float],
) -> TypedValue:
    """A Python value with the type that its class says."""
    match value:
        case bool():
            return TypedValue(AttributeType.BOOL, value)
        case int():
            return TypedValue(AttributeType.INT, value)
        case float():
            return TypedValue(AttributeType.DOUBLE, value)
        case str():
            return TypedValue(AttributeType.STRING, value)
        case datetime():
            return TypedValue(AttributeType.TIMESTAMP, microseconds(value))
        case timedelta():
            return TypedValue(AttributeType.DURATION, value // _MICROSECOND)
        case list():
            return TypedValue(AttributeType.STRING_LIST, value)
        case _:
            return TypedValue(AttributeType.NUMBER_MAP, dict(value))


def microseconds(time: datetime) -> int:
    """Microseconds from 1970 (UTC) to an aware time."""
    return (time - _EPOCH) // _MICROSECOND
