"""Users' attributes as they come: from messages, or as plain Python values."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

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


def read_value(message: attribute_pb2.AttributeValue) -> TypedValue | None:
    """The value of a message; None if it holds none. Times and spans of time are cut down to whole
    microseconds, as Postgres keeps them."""
    match message.WhichOneof("kind"):
        case "string_value":
            return TypedValue(AttributeType.STRING, message.string_value)
        case "number_value":
            return TypedValue(AttributeType.DOUBLE, message.number_value)
        case "int_value":
            return TypedValue(AttributeType.INT, message.int_value)
        case "bool_value":
            return TypedValue(AttributeType.BOOL, message.bool_value)
        case "time_value":
            time = message.time_value
            return TypedValue(AttributeType.TIMESTAMP, time.seconds * 10**6 + time.nanos // 1000)
        case "duration_value":
            span = message.duration_value
            return TypedValue(AttributeType.DURATION, span.seconds * 10**6 + int(span.nanos / 1000))
        case "list_value":
            return TypedValue(AttributeType.STRING_LIST, list(message.list_value.values))
        case "map_value":
            return TypedValue(AttributeType.NUMBER_MAP, dict(message.map_value.values))
        case _:
            return None


def read_values(
    attributes: Mapping[str, attribute_pb2.AttributeValue],
) -> dict[str, TypedValue]:
    """The values of a user's attributes."""
    read = ((name, read_value(message)) for name, message in attributes.items())
    return {name: value for name, value in read if value is not None}


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
