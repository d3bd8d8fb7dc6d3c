"""When an outgoing call may be tried again, and after how long."""

import random
import time
from collections.abc import Callable

EARNED_PER_CALL = 0.1
EARNED_PER_SECOND = 0.5
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0


class RetryBudget:
    """A token bucket that keeps retries from multiplying load on a service that is in trouble.

    Each retry costs one token. A call earns EARNED_PER_CALL, a second EARNED_PER_SECOND (so that a
    rare caller can retry again), up to `capacity`, where the bucket starts.
    """

    def __init__(self, capacity: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._tokens = capacity
        self._monotonic = monotonic
        self._seen = monotonic()

    def earn(self) -> None:
        """Note a call that was made."""
        self._tokens = min(self._capacity, self._tokens + EARNED_PER_CALL)

    def spend(self) -> bool:
        """Take the token of one retry; False when there is none, and then nothing is taken."""
        now = self._monotonic()
        earned = (now - self._seen) * EARNED_PER_SECOND
        self._seen = now
        self._tokens = min(self._capacity, self._tokens + earned)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def pause_s(attempt: int) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 1): exponential, full jitter."""
    return random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt))
