"""Requests of late, scored by a version before it takes over."""

import asyncio
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from services.ranker.acceptance import check_scores
from services.ranker.backend import MOST_USERS, Backend, ModelRefused
from services.ranker.batching import RUN_EVENTS, Rows
from services.ranker.catalogue import Catalogue
from services.ranker.features import (
    Features,
    concatenate,
    content_refs,
    model_inputs,
    rows,
)
from services.ranker.features.items import Contents
from services.ranker.features.schema import SEQUENCES
from services.ranker.rank_log import RankLog, Scored
from services.ranker.snapshots import SnapshotError, decode_events, decode_users
from services.runtime.errors import Unavailable

SIZES = ((1, 32), (8, 160), (32, RUN_EVENTS), (MOST_USERS, RUN_EVENTS))
"""Users and events of the runs: one for each size that backends keep memory ready for."""


class Rehearsal:
    """Has versions score what was asked of late."""

    def __init__(self, log: RankLog, catalogue: Catalogue, backend: Backend) -> None:
        self._log = log
        self._catalogue = catalogue
        self._backend = backend

    async def run(self, version: str) -> int:
        """Have a loaded version score the stored requests of late in all sizes; gives how many
        runs that were, 0 where nothing is stored.

        Raises ModelRefused when a score is no probability or there is none, and Unavailable.
        """
        found = readable(await self._log.latest(MOST_USERS))
        if found is None:
            return 0
        features = {**found.users, **found.events}
        contents = await self._catalogue.contents(content_refs(features))
        inputs = await asyncio.to_thread(lambda: list(runs(found, contents)))
        for each in inputs:
            await self._score(version, each)
        return len(inputs)

    async def _score(self, version: str, inputs: Features) -> None:
        try:
            scores = await self._backend.score(version, inputs)
        except Unavailable:
            raise
        except Exception as error:  # each backend has exceptions of its own
            raise ModelRefused(f"{version} can't score requests of late: {error}") from error
        check_scores(version, scores)


def readable(stored: Sequence[Scored]) -> Rows | None:
    """The requests whose features are of this version; None when there are none."""
    users, events = [], []
    for each in stored:
        try:
            users.append(decode_users([each.features]))
        except SnapshotError:
            continue
        events.append(decode_events(each.events, each.event_count))
    if not users:
        return None
    counts = [len(part["event_type"]) for part in events]
    return Rows(concatenate(users), concatenate(events), np.repeat(np.arange(len(users)), counts))


def runs(requests: Rows, contents: Contents) -> Iterator[Features]:
    """Inputs of runs in each size, once of the users with the shortest and once of those with the
    longest history; where there are fewer users or events than asked for, they come again."""
    steps = np.stack([(requests.users[f"{name}_kinds"] > 0).sum(1) for name in SEQUENCES])
    by_history = np.argsort(steps.max(axis=0), kind="stable")
    for users, events in SIZES:
        for order in (by_history, by_history[::-1]):
            part = sized(requests, np.resize(order, users), events)
            yield model_inputs(part.users, part.events, part.user_row, contents)


def sized(requests: Rows, chosen: NDArray[np.int64], count: int) -> Rows:
    """These users with so many events: each one's first, then each one's second, and so on."""
    counts = np.bincount(requests.user_row, minlength=len(requests.users["segment"]))
    starts = (np.cumsum(counts) - counts)[chosen]
    user_row = np.repeat(np.arange(len(chosen)), counts[chosen])
    nth = np.concatenate([np.arange(counts[user]) for user in chosen])
    order = np.resize(np.lexsort((user_row, nth)), count)
    events = (starts[user_row] + nth)[order]
    return Rows(rows(requests.users, chosen), rows(requests.events, events), user_row[order])
