"""What the current call brought: its request id and its deadline, for the rest of its task."""

import re
import time
from collections.abc import Iterable
from contextvars import ContextVar
from random import Random

REQUEST_ID_METADATA_KEY = "heliograph-request-id"
"""Metadata with the id that follows a call through all services and their logs."""

_random = Random()
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}").fullmatch
_UNBOUNDED_S = 10 * 365 * 86400.0

_request_id: ContextVar[str] = ContextVar("heliograph_request_id", default="")
_deadline: ContextVar[float | None] = ContextVar("heliograph_deadline", default=None)


def fresh_id(size: int) -> str:
    """An id of so many random bytes, in hexadecimal. Anyone may guess it who saw many: the system's
    own source, which nobody could, gives up the interpreter's lock for each."""
    return _random.randbytes(size).hex()


def request_id() -> str:
    """Id of the current request; empty outside one."""
    return _request_id.get()


def set_request_id(offered: str) -> str:
    """Give the current task the caller's id, or a fresh one where it is missing or unusable."""
    chosen = offered if _REQUEST_ID(offered) else fresh_id(8)
    _request_id.set(chosen)
    return chosen


def set_deadline(remaining_s: float | None) -> None:
    """Give the current task `remaining_s` seconds from now; None for no deadline."""
    bounded = remaining_s is not None and remaining_s < _UNBOUNDED_S
    _deadline.set(time.monotonic() + remaining_s if bounded and remaining_s is not None else None)


def deadline() -> float | None:
    """When the current call has to be answered, on the monotonic clock; None: no deadline."""
    return _deadline.get()


def set_latest(deadlines: Iterable[float | None]) -> None:
    """Give the current task the latest of some deadlines: none when one of them is None."""
    found = list(deadlines)
    known = [each for each in found if each is not None]
    _deadline.set(max(known) if known and len(known) == len(found) else None)


def remaining() -> float | None:
    """Seconds left of the current call's deadline, at least 0; None when it has none."""
    deadline = _deadline.get()
    return None if deadline is None else max(0.0, deadline - time.monotonic())
