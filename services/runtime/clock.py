"""The time every service asks for.

Outside simulation mode the clock is the wall clock. In simulation mode the time travels in the
metadata of each request (`heliograph-time`), is kept for the length of the call, and goes on with
every outgoing call, so that five processes play the same moment.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from services.runtime.errors import FieldError, InvalidArgument

TIME_METADATA_KEY = "heliograph-time"
"""Request metadata with the simulated time, RFC 3339 with microseconds and a time zone."""

_moment: ContextVar[datetime | None] = ContextVar("heliograph_time", default=None)


@contextmanager
def at(moment: datetime) -> Iterator[None]:
    """Calls made inside carry `moment` (aware) as their simulated time."""
    token = _moment.set(_utc(moment))
    try:
        yield
    finally:
        _moment.reset(token)


def set_moment(moment: datetime) -> None:
    """Give the rest of the current task the simulated time `moment` (aware)."""
    _moment.set(_utc(moment))


def current_moment() -> datetime | None:
    """The simulated time of the current task; None when it has none."""
    return _moment.get()


def format_time(moment: datetime) -> str:
    """Metadata form of an aware time: RFC 3339, UTC, microseconds."""
    return _utc(moment).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Aware UTC time from metadata. Raises InvalidArgument when it is not RFC 3339 with a zone."""
    try:
        given = datetime.fromisoformat(text)
        moment = None if given.tzinfo is None else given.astimezone(UTC)
    except (ValueError, OverflowError):
        moment = None
    if moment is None:
        description = "must be RFC 3339 with a time zone, e.g. 2026-03-01T08:00:00.000000Z"
        raise InvalidArgument(
            f"metadata {TIME_METADATA_KEY} is not a time",
            reason="INVALID_TIME",
            fields=[FieldError(TIME_METADATA_KEY, description)],
        )
    return moment


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"a time without a time zone: {moment!r}")
    return moment.astimezone(UTC)


class Clock:
    """Wall clock, or in simulation mode the time that the current request brought.

    In simulation mode, work that belongs to no request, and requests that bring no time, are at
    the latest time any request brought (the wall clock before the first one), so that a question
    asked after a simulated day does not make that day's events expire.
    """

    def __init__(self, *, simulation: bool = False) -> None:
        self.simulation = simulation
        self._latest: datetime | None = None

    def now(self) -> datetime:
        """Aware UTC time."""
        if not self.simulation:
            return datetime.now(UTC)
        return _moment.get() or self._latest or datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds for heartbeats and I/O time-outs only; never simulated."""
        return time.monotonic()

    def observe(self, moment: datetime) -> bool:
        """Note the time that a request brought; True when it is later than all before it.

        Requests run concurrently, so an earlier time is allowed; it only moves nothing.
        """
        if self._latest is not None and moment <= self._latest:
            return False
        self._latest = moment
        return True
