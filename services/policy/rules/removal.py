"""What a rule answers: which options it removes, and why."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from services.policy.batch import Batch, Ints
from services.policy.channel_bits import CHANNELS, bit

KEPT = -1


@dataclass(frozen=True, slots=True)
class Cause:
    """Why options were removed."""

    reason: str
    """UPPER_SNAKE_CASE, for programs."""
    detail: str
    """For a person."""
    until: datetime | None = None
    """When the rule may let the option through; None: never."""


class Removal:
    """Causes of one rule, and for each option which of them removed it.

    A rule names causes where they hold: for a whole slot, for a channel of a slot, for an event or
    for an event's channel. The first one named for an option stands.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.causes: list[Cause] = []
        self._slots: NDArray[np.int32] | None = None
        self._events: NDArray[np.int32] | None = None

    def slot(self, slot: int, cause: Cause, channels: int = 7) -> None:
        """Remove a slot's options in the channels whose bits are set."""
        if self._slots is None:
            self._slots = _kept(len(self._batch.slots))
        self._mark(self._slots, slot, cause, channels)

    def event(self, event: int, cause: Cause, channels: int = 7) -> None:
        """Remove an event's options in the channels whose bits are set."""
        if self._events is None:
            self._events = _kept(len(self._batch.events))
        self._mark(self._events, event, cause, channels)

    def by_option(self) -> Ints | None:
        """Index of the cause for each option, KEPT for none; None when nothing was removed."""
        batch = self._batch
        found: Ints | None = None
        if self._slots is not None:
            found = self._slots[batch.slot, batch.column]
        if self._events is not None:
            marked = self._events[batch.event, batch.column]
            found = marked if found is None else np.where(found == KEPT, marked, found)
        return found

    def _mark(self, cells: NDArray[np.int32], row: int, cause: Cause, channels: int) -> None:
        number = len(self.causes)
        for column, channel in enumerate(CHANNELS):
            if channels & bit(channel) and cells[row, column] == KEPT:
                cells[row, column] = number
        self.causes.append(cause)


def _kept(rows: int) -> NDArray[np.int32]:
    return np.full((rows, len(CHANNELS)), KEPT, dtype=np.int32)
