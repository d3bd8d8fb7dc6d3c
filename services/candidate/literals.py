"""Postgres literals for batches: arrays as parameters.

A batch is a few long columns. Written here in one go they cost a fraction of what the driver takes,
which looks at each value for its type.
"""

from collections.abc import Iterable
from datetime import datetime


def texts(values: Iterable[str]) -> str:
    """Literal of texts, as a text array or an array of anything whose text form they are. Raises
    ValueError for a text with a NUL character."""
    listed = list(values)
    if not listed:
        return "{}"
    joined = "\0".join(listed)
    if joined.count("\0") >= len(listed):
        raise ValueError("a text contains a NUL character")
    escaped = joined.replace("\\", "\\\\").replace('"', '\\"')
    return '{"' + escaped.replace("\0", '","') + '"}'


def numbers(values: Iterable[float]) -> str:
    """Literal of whole or floating-point numbers, exact."""
    return "{" + ",".join([repr(value) for value in values]) + "}"


def binaries(values: Iterable[bytes]) -> str:
    """Literal of byte strings."""
    return "{" + ",".join([f'"\\\\x{value.hex()}"' for value in values]) + "}"


def times(values: Iterable[datetime | None]) -> str:
    """Literal of aware times; None is NULL."""
    parts = ["NULL" if value is None else f'"{value.isoformat()}"' for value in values]
    return "{" + ",".join(parts) + "}"


def flags(values: Iterable[bool]) -> str:
    """Literal of truth values."""
    return "{" + ",".join(["t" if value else "f" for value in values]) + "}"
