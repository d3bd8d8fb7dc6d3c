"""Rows in COPY's binary format, made a column at a time.

Each function gives fields, that is values with their length before them, as the manual's page on
COPY tells, "Binary Format". The server doesn't look for a value's type: it must be the column's.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import chain
from struct import Struct

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
TEXT_TYPE = 25
"""Number of the type text, in pg_type."""

_COUNT = Struct(">h").pack
_LENGTH = Struct(">i").pack
_ARRAY = Struct(">iiiii").pack
_MICROSECOND = timedelta(microseconds=1)


def rows(columns: int, fields: Sequence[Sequence[bytes]]) -> bytes:
    """All that COPY reads: rows of so many columns, whose fields are given column by column; those
    of some columns that lie side by side may come as one."""
    counts = [_COUNT(columns)] * len(fields[0])
    parts = chain.from_iterable(zip(counts, *fields, strict=True))
    return b"".join([HEADER, *parts, END])


def binaries(values: Iterable[bytes]) -> list[bytes]:
    """Byte strings, or texts in UTF-8."""
    return [_LENGTH(len(value)) + value for value in values]


def texts(values: Iterable[str]) -> list[bytes]:
    """Texts; those with a NUL character are refused by the server."""
    return binaries(map(str.encode, values))


def text_array(values: tuple[str, ...]) -> bytes:
    """Array of texts, in one dimension, or empty."""
    if not values:
        content = _ARRAY(0, 0, TEXT_TYPE, 0, 0)[:12]
    else:
        content = _ARRAY(1, 0, TEXT_TYPE, len(values), 1) + b"".join(texts(values))
    return _LENGTH(len(content)) + content


@lru_cache(maxsize=4096)
def microseconds(moment: datetime) -> int:
    """An aware time as a timestamptz holds it."""
    return (moment - EPOCH) // _MICROSECOND


@lru_cache(maxsize=64)
def day(value: date) -> bytes:
    """A date."""
    return _LENGTH(4) + _LENGTH((value - EPOCH.date()).days)


def smallint(value: int | None) -> bytes:
    """A smallint, or NULL."""
    return NULL if value is None else _LENGTH(2) + _COUNT(value)


def time(moment: datetime | None) -> bytes:
    """A timestamptz, or NULL."""
    if moment is None:
        return NULL
    return _LENGTH(8) + microseconds(moment).to_bytes(8, "big", signed=True)


def flag(value: bool) -> bytes:
    """A truth value."""
    return _LENGTH(1) + bytes([value])
