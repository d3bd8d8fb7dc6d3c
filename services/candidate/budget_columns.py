"""What is left of users' attention: sends that policy would still allow, and room in their pools;
compact columns aligned to the user index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from services.candidate.questions import Omission
from services.candidate.sources.arrays import NONE, Floats, Mask, Rows

NO_RECIPIENT_CAP = 255
"""Discounts who is no recipient more than anyone at the cap."""
CONVERTED_AT_ONCE = 10_000

Bytes = npt.NDArray[np.uint8]
Small = TypeVar("Small", np.uint8, np.uint16)


@dataclass(frozen=True, eq=False, slots=True)
class BudgetColumns:
    """Per user, in the order of their ids. A user whom policy doesn't know as a recipient has no
    open channel and no send left of 255."""

    user_ids: Sequence[str]
    channels: Bytes
    """Bits of the channels that are open now; 0: none."""
    remaining: Bytes
    """Sends left today."""
    caps: Bytes
    """Sends a day at most."""
    waiting: npt.NDArray[np.uint16]
    """Events in the pool at most, exact from `pool_size` on."""
    pool_size: int
    read_time: datetime
    """When it was read; all of it is at least as new."""

    def obstacles(self, rows: Rows) -> Iterator[tuple[Omission, Mask]]:
        """What makes a send impossible or of poor value, and in whose way of these it stands."""
        yield Omission.NO_CHANNEL, self.channels[rows] == 0
        yield Omission.CAP, self.remaining[rows] == 0
        yield Omission.POOL_FULL, self.waiting[rows] >= self.pool_size

    def discounts(self, rows: Rows) -> Floats:
        """(1 + left today) / (1 + cap) × (1 − waiting / (1 + pool size)), halved without an open
        channel; in (0, 1]."""
        remaining = np.minimum(self.remaining[rows], self.caps[rows])
        left = (1.0 + remaining) / (1.0 + self.caps[rows])
        room = 1.0 - np.minimum(self.waiting[rows], self.pool_size) / (1.0 + self.pool_size)
        found: Floats = (left * room * np.where(self.channels[rows] == 0, 0.5, 1.0)).astype(
            np.float32
        )
        return found

    def aligned(self, user_ids: Sequence[str]) -> BudgetColumns:
        """The same for the users of a later catalogue; those who came since are as unknown
        recipients."""
        rows = rows_of(arrow_names(user_ids), self.user_ids)

        def moved(column: npt.NDArray[Small], default: int = 0) -> npt.NDArray[Small]:
            return np.append(column, column.dtype.type(default))[rows]

        return replace(
            self,
            user_ids=user_ids,
            channels=moved(self.channels),
            remaining=moved(self.remaining),
            caps=moved(self.caps, NO_RECIPIENT_CAP),
            waiting=moved(self.waiting),
        )


def arrow_names(names: Sequence[str]) -> pa.ChunkedArray[Any]:
    """Names as Arrow has them; some at a time, so that nobody waits long for the interpreter."""
    starts = range(0, len(names), CONVERTED_AT_ONCE)
    parts = [pa.array(names[start : start + CONVERTED_AT_ONCE], pa.string()) for start in starts]
    return pa.chunked_array(parts, pa.string())


def rows_of(names: pa.ChunkedArray[Any], known: Sequence[str]) -> Rows:
    """The row of each name among those known; NONE, that is −1, for one who isn't. Doesn't hold the
    interpreter, and takes a third of the time that a dict takes for a million names."""
    found: Any = pc.index_in(names, value_set=arrow_names(known))
    return np.asarray(found.fill_null(NONE), np.int64)
