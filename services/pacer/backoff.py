"""When a failed delivery is tried again, and how long a loop pauses."""

from dataclasses import dataclass
from datetime import timedelta

from services.pacer.messages import Outcome
from services.runtime.hashing import unit_hash


@dataclass(frozen=True, slots=True)
class RetryRule:
    """Pauses between attempts: by the kind of failure, doubled each time, up to `longest`."""

    first: timedelta
    throttled: timedelta
    longest: timedelta
    attempts_at_most: int

    def pause(self, outcome: Outcome, delivery_id: str, attempt: int) -> timedelta | None:
        """Pause after failed attempt number `attempt` (from 1); None: there is no further one.

        Half of the pause is jitter. It is drawn by a hash of delivery and attempt, so that a
        simulated day can be repeated. `REFUSED` and `UNREACHABLE` are for good.
        """
        if outcome in (Outcome.REFUSED, Outcome.UNREACHABLE) or attempt >= self.attempts_at_most:
            return None
        base = self.throttled if outcome is Outcome.THROTTLED else self.first
        doubled = min(base * (1 << min(attempt - 1, 32)), self.longest)
        return doubled * (0.5 + 0.5 * unit_hash("delivery-retry", delivery_id, str(attempt)))


class Pauses:
    """The pauses of a polling loop, in seconds: short after work, doubling while there is none."""

    def __init__(self, shortest: timedelta, longest: timedelta, held: timedelta) -> None:
        self._shortest = shortest.total_seconds()
        self._longest = longest.total_seconds()
        self._held_longest = held.total_seconds()
        self._idle = self._shortest
        self._held = self._longest

    def worked(self) -> float:
        """Something was done: go on at once."""
        self._idle, self._held = self._shortest, self._longest
        return 0.0

    def idle(self) -> float:
        """Nothing waits."""
        self._held = self._longest
        pause, self._idle = self._idle, min(2 * self._idle, self._longest)
        return pause

    def held(self, jitter: float) -> float:
        """Another service is down; `jitter` in [0, 1) takes away up to half of the pause."""
        pause, self._held = self._held, min(2 * self._held, self._held_longest)
        return pause * (1 - 0.5 * jitter)
