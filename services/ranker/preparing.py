"""From users and events to features, for concurrent calls in one go.

Most of what few users take is the same for many: a statement, and some hundred small steps of
NumPy. So several calls are prepared together, and each gets its rows. That is done on the event
loop: a thread would hold the interpreter's lock as long, and the loop would wait for it longer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.ranker.catalogue import Catalogue
from services.ranker.feature_store import FeatureStore
from services.ranker.features import (
    EventFacts,
    Features,
    FeatureState,
    UserSignals,
    event_features,
    rows,
    user_features,
)
from services.ranker.snapshots import encode_users, event_records
from services.runtime.gathering import Gathered

PREPARED_TOGETHER = 1024
"""Users and events that are prepared in one go, at most, unless one call has more: some
milliseconds, after which calls that came meanwhile have their turn."""
PATIENCE_S = 0.004
"""How long calls that had to wait wait for more, and again while more came. What a call of one user
and 20 events takes of the loop is several times less among many than alone."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the features of one call are made from: of users [U] and their events [N]. Times are in
    seconds."""

    user_ids: Sequence[str]
    signals: Sequence[UserSignals]
    events: Sequence[EventFacts]
    user_row: NDArray[np.int64]
    now: int
    deliver_time: int | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """The features of one call, and by user their stored forms: of the user, and of the events with
    their positions."""

    users: Features
    events: Features
    snapshots: Sequence[tuple[bytes, Sequence[int], bytes]]


class Preparation:
    """Makes features. One per service."""

    def __init__(self, store: FeatureStore, catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue
        self._calls = Gathered(
            self._together,
            PREPARED_TOGETHER,
            size=lambda facts: len(facts.user_ids) + len(facts.events),
            patience=PATIENCE_S,
        )

    async def prepare(self, facts: Facts) -> Prepared:
        """The features of a call; those of concurrent ones are made with them."""
        return await self._calls.do(facts)

    async def _together(self, calls: Sequence[Facts]) -> list[Prepared]:
        user_ids = list(chain.from_iterable(call.user_ids for call in calls))
        states = await self._store.states(user_ids)
        return self._prepared(calls, states)

    def _prepared(self, calls: Sequence[Facts], states: Sequence[FeatureState]) -> list[Prepared]:
        sizes = [len(call.user_ids) for call in calls]
        counts = [len(call.events) for call in calls]
        now = np.array([call.now for call in calls])
        deliver = np.array([call.now if call.deliver_time is None else call.deliver_time
                            for call in calls])  # fmt: skip
        items = self._catalogue.items
        users = user_features(
            states,
            list(chain.from_iterable(call.signals for call in calls)),
            np.repeat(now, sizes),
            items,
            np.repeat(deliver, sizes),
        )
        events = event_features(
            list(chain.from_iterable(call.events for call in calls)), np.repeat(now, counts), items
        )
        encoded, records = encode_users(users), event_records(events)
        found = []
        for call, own_users, own_events in zip(calls, _slices(sizes), _slices(counts), strict=True):
            snapshots = _snapshots(encoded[own_users], records[own_events], call.user_row)
            found.append(Prepared(rows(users, own_users), rows(events, own_events), snapshots))
        return found


def _slices(sizes: Sequence[int]) -> Iterator[slice]:
    """Where each of so many rows lie, one after the other."""
    return (slice(start, end) for start, end in pairwise(accumulate(sizes, initial=0)))


def _snapshots(
    users: Sequence[bytes], events: NDArray[Any], user_row: NDArray[np.int64]
) -> list[tuple[bytes, Sequence[int], bytes]]:
    order = np.argsort(user_row, kind="stable")
    ends = np.searchsorted(user_row[order], np.arange(len(users) + 1)).tolist()
    positions, size, stored = order.tolist(), events.itemsize, events[order].tobytes()
    return [
        (user, positions[start:end], stored[start * size : end * size])
        for user, (start, end) in zip(users, pairwise(ends), strict=True)
    ]
