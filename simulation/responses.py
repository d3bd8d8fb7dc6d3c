"""What a user of the world does with a notification. Deterministic: the truth and a seed decide.

- An item that the held-back ratings give 4 or 5 stars is opened (e-mail and in-app: clicked).
- One with 1 to 3 stars is dismissed.
- One that the user didn't rate there, or was sent before, is ignored.
- Three dismissals in a row (ignored ones between them don't count, an open starts anew) make the
  user turn off the channel of the third with probability 1/2, drawn by a hash; then counting
  starts anew.
- A response comes 2 to 40 minutes after the message, drawn by a hash.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from services.runtime.hashing import unit_hash
from simulation.world import LIKED_STARS, World

DISMISSALS_TO_DISABLE = 3
DISABLE_PROBABILITY = 0.5
SHORTEST_DELAY_MIN = 2.0
LONGEST_DELAY_MIN = 40.0


class Reaction(StrEnum):
    """What a user does with one notification."""

    OPEN = "open"
    DISMISS = "dismiss"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Response:
    """A reaction, whether the user also turns off the channel, and how long after the message."""

    reaction: Reaction
    disables: bool
    delay: timedelta


@dataclass(slots=True)
class Responder:
    """The users of a world, with what they remember of the notifications so far."""

    world: World
    seed: int
    _sent: set[tuple[int, int]] = field(default_factory=set)
    _dismissals: dict[int, int] = field(default_factory=dict)

    def respond(self, user: int, item: int, key: Hashable) -> Response:
        """The response of a user to a message about an item (both by position).

        `key` tells the message apart from others to the same user, e.g. its decision; the draws
        depend on it. Each message must be given once, in the order of the user's messages.
        """
        parts = (self.world.data.users[user].user_id, str(key))
        delay = self._delay(parts)
        reaction = self._reaction(user, item)
        self._sent.add((user, item))
        if reaction is Reaction.OPEN:
            self._dismissals[user] = 0
        if reaction is not Reaction.DISMISS:
            return Response(reaction, False, delay)
        count = self._dismissals.get(user, 0) + 1
        full = count >= DISMISSALS_TO_DISABLE
        self._dismissals[user] = 0 if full else count
        disables = full and unit_hash(f"disable:{self.seed}", *parts) < DISABLE_PROBABILITY
        return Response(reaction, disables, delay)

    def _reaction(self, user: int, item: int) -> Reaction:
        stars = int(self.world.truth[user, item])
        if not stars or (user, item) in self._sent:
            return Reaction.IGNORE
        return Reaction.OPEN if stars >= LIKED_STARS else Reaction.DISMISS

    def _delay(self, parts: tuple[str, str]) -> timedelta:
        share = unit_hash(f"delay:{self.seed}", *parts)
        minutes = SHORTEST_DELAY_MIN + share * (LONGEST_DELAY_MIN - SHORTEST_DELAY_MIN)
        return timedelta(minutes=minutes)
