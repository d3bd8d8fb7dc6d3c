"""Friends who are users of other shards, for the daily generation of a shard.

They are read from the database for a run, and forgotten after it: in memory they would be nearly
everyone, whatever the number of shards.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from services.candidate import literals
from services.candidate.catalogue_store import QUERIES
from services.candidate.index import IndexState
from services.candidate.sources.arrays import Matrix, Rows, below, beside, empty, sparse
from services.candidate.sources.catalogue import NEVER
from services.candidate.sources.fresh import recencies
from services.runtime.database import Database, UnitOfWork

AT_A_TIME = 10_000
"""Users whose friends, or likes, are read by one statement."""
TIMEOUT = timedelta(minutes=5)

Friendship = tuple[int, str, float]
"""Row of a user, a friend who isn't in the index, and how close."""


class Friends:
    """Reads them. See `FriendsElsewhere`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(
        self, state: IndexState, users: Rows, now: datetime, window: timedelta
    ) -> tuple[IndexState, Matrix]:
        """The state with the friends elsewhere of some users as actors, behind all others, and what
        they have liked within the window."""
        async with self._database.read(timeout=TIMEOUT) as work:
            found = await _friends(work, state, users)
            names = sorted({name for _, name, _ in found})
            likes = await _likes(work, state, names, now, window)
        places = {name: place for place, name in enumerate(names)}
        known = state.relations
        before = len(known.actor_ids) - len(state.catalogue.user_ids)
        closeness = sparse(
            np.array([strength for _, _, strength in found], np.float32),
            np.array([row for row, _, _ in found], np.int64),
            np.array([places[name] for _, name, _ in found], np.int64),
            (len(state.catalogue.user_ids), len(names)),
        )
        nothing = empty(*closeness.shape)
        relations = replace(
            known,
            actor_ids=[*known.actor_ids, *names],
            follows=beside(known.follows, nothing),
            friends=beside(known.friends, closeness),
        )
        return replace(state, relations=relations), below(empty(before, likes.shape[1]), likes)


async def _friends(work: UnitOfWork, state: IndexState, users: Rows) -> list[Friendship]:
    known, ids = state.catalogue.user_rows, state.catalogue.user_ids
    found = []
    for part in _parts([ids[row] for row in users.tolist()]):
        rows = await work.rows(QUERIES.friends_of, {"user_ids": literals.texts(part)})
        found += [
            (known[row.user_id], row.friend_id, row.strength)
            for row in rows
            if row.friend_id not in known
        ]
    return found


async def _likes(
    work: UnitOfWork, state: IndexState, names: Sequence[str], now: datetime, window: timedelta
) -> Matrix:
    """Names × items: the recency of what they like, where it is within the window."""
    items = state.catalogue.item_rows
    pairs: list[tuple[int, int, float]] = []
    start = 0
    for part in _parts(names):
        params = {"user_ids": literals.texts(part), "since": now - window}
        places = {name: start + place for place, name in enumerate(part)}
        start += len(part)
        for row in await work.rows(QUERIES.liked_since, params):
            item = items.get(row.item_id)
            if item is not None and state.catalogue.item_live[item]:
                pairs.append((places[row.user_id], item, row.last))
    table = np.array(pairs, np.float64).reshape(-1, 3)
    times = NEVER + (table[:, 2] * 1e6).astype("timedelta64[us]")
    recency = recencies(times, now, window)
    kept = np.flatnonzero(recency > 0)
    owners, columns = table[kept, 0].astype(np.int64), table[kept, 1].astype(np.int64)
    return sparse(recency[kept], owners, columns, (len(names), len(items)))


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), AT_A_TIME):
        yield names[start : start + AT_A_TIME]
