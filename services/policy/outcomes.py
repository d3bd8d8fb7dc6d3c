"""What a decision means for each of its events: for the pool, and for a ready event's next try."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

import numpy as np

from services.policy.batch import Batch
from services.policy.rules import RULES, Ruled
from services.policy.rules.removal import KEPT, Cause


class End(IntEnum):
    """How an event leaves the pool; numbers of the proto. STAYS: it doesn't."""

    STAYS = 0
    SENT = 1
    EXPIRED = 3
    SUPPRESSED = 5


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """What became of one event, and why."""

    event_id: str
    end: End
    reason: str


def blocked(batch: Batch, ruled: Ruled, slot: int) -> tuple[Cause | None, str]:
    """Of a slot without any option left: the cause that ends first (None when all are for good),
    and the rule that removed the last option."""
    options = batch.options_of(slot)
    causes = [ruled.cause_of(option) for option in range(options.start, options.stop)]
    passing = [cause for cause in causes if cause.until is not None]
    last = int(ruled.removed_by[options].max())
    return min(passing, key=_until, default=None), RULES[last].name


def outcomes(batch: Batch, ruled: Ruled, slot: int, taken: int, reason: str) -> list[EventOutcome]:
    """Of all events of a slot; `taken` is the batch's index of the event sent, or -1."""
    options = batch.options_of(slot)
    events = batch.event[options]
    removed = ruled.removed_by[options] != KEPT
    first, end = int(batch.event_starts[slot]), int(batch.event_starts[slot + 1])
    left = np.bincount(events[~removed] - first, minlength=end - first) > 0
    causes: dict[int, list[Cause]] = {}
    for option in np.flatnonzero(removed & ~left[events - first]) + options.start:
        causes.setdefault(int(batch.event[option]), []).append(ruled.cause_of(int(option)))
    kept = reason if taken == -1 else "NOT_CHOSEN"
    found = []
    for event in range(first, end):
        name = batch.events[event].event_id
        if event == taken:
            found.append(EventOutcome(name, End.SENT, reason))
        elif event in causes:
            found.append(_removed(name, causes[event]))
        else:
            found.append(EventOutcome(name, End.STAYS, kept))
    return found


def _removed(event_id: str, causes: Sequence[Cause]) -> EventOutcome:
    for cause in causes:
        if cause.until is not None:
            return EventOutcome(event_id, End.STAYS, cause.reason)
    reason = causes[0].reason
    return EventOutcome(event_id, End.EXPIRED if reason == "EXPIRED" else End.SUPPRESSED, reason)


def _until(cause: Cause) -> datetime:
    assert cause.until is not None
    return cause.until
