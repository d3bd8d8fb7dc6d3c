"""What a decision means for each of its events: for the pool, and for a ready event's next try."""

from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

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


class EventOutcome(NamedTuple):
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


def events_left(batch: Batch, ruled: Ruled) -> list[bool]:
    """Of each event of the batch, whether the rules left it an option."""
    left = batch.event[ruled.removed_by == KEPT]
    found: list[bool] = (np.bincount(left, minlength=len(batch.events)) > 0).tolist()
    return found


def outcomes(
    batch: Batch, ruled: Ruled, left: Sequence[bool], slot: int, taken: int, reason: str
) -> list[EventOutcome]:
    """Of all events of a slot; `left` is by event, `taken` the batch's index of the event sent,
    or -1."""
    first, end = int(batch.event_starts[slot]), int(batch.event_starts[slot + 1])
    kept = reason if taken == -1 else "NOT_CHOSEN"
    causes: dict[int, list[Cause]] = {}
    if not all(left[first:end]):
        options = batch.options_of(slot)
        for option in range(options.start, options.stop):
            event = int(batch.event[option])
            if not left[event]:
                causes.setdefault(event, []).append(ruled.cause_of(option))
    found = [
        EventOutcome(event.event_id, End.STAYS, kept)
        if left[first + offset]
        else _removed(event.event_id, causes[first + offset])
        for offset, event in enumerate(batch.slots[slot].events)
    ]
    if taken != -1:
        found[taken - first] = EventOutcome(found[taken - first].event_id, End.SENT, reason)
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
