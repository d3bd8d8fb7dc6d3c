"""Times in messages: proto timestamps to aware UTC datetimes and back."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from services.runtime.errors import FieldError, InvalidArgument


def timestamp(moment: datetime) -> Timestamp:
    """The message of an aware time."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def moment(message: Timestamp, field: str) -> datetime:
    """The aware UTC time of a message, in microseconds.

    Raises InvalidArgument that names `field` for a time outside the years 1–9999.
    """
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        problem = "must be a time from 0001-01-01 to 9999-12-31, with 0–999,999,999 nanoseconds"
        raise InvalidArgument(f"{field}: {problem}", fields=[FieldError(field, problem)]) from error
