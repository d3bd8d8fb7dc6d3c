"""The bound on how many calls a service works on at once."""

import random
from datetime import timedelta

from services.runtime.errors import ResourceExhausted


class Admission:
    """Counts open calls; past the limit a caller is told to come back a little later.

    Refusing early keeps the latency of the calls that are let in, and the event loop and the
    database pool from drowning in queued work.
    """

    def __init__(self, what: str, limit: int) -> None:
        self._what = what
        self._limit = limit
        self.open = 0

    def enter(self) -> None:
        """Count one more. Raises ResourceExhausted with a jittered delay at the limit."""
        if self.open >= self._limit:
            raise ResourceExhausted(
                f"this service works on {self._limit} {self._what} already",
                reason="TOO_MANY_CALLS",
                retry_after=timedelta(seconds=random.uniform(0.1, 0.3)),
            )
        self.open += 1

    def leave(self) -> None:
        """Count one less."""
        self.open -= 1
