"""Feature states in Postgres, with a bounded cache in the process."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.ranker.features import FeatureState, decode, encode
from services.runtime.database import Database, UnitOfWork, load_queries

queries = load_queries(Path(__file__).with_name("feature_queries.sql"))


class FeatureStore:
    """Reads states by user.

    A cached state is used only when the stored one has the same version, which each read asks for,
    so that no replica ever answers from a state that another has changed.
    """

    def __init__(self, database: Database, cached_states: int) -> None:
        self._database = database
        self._most = cached_states
        self._cache: OrderedDict[str, tuple[int, FeatureState]] = OrderedDict()

    async def states(self, user_ids: Sequence[str]) -> list[FeatureState]:
        """States of users, in their order; empty ones for users nothing is known of."""
        distinct = list(dict.fromkeys(user_ids))
        cached = {user: self._cache[user] for user in distinct if user in self._cache}
        versions = [cached[user][0] if user in cached else 0 for user in distinct]
        async with self._database.statement() as work:
            rows = await work.rows(
                queries.changed_states, {"user_ids": distinct, "versions": versions}
            )
        found: dict[str, FeatureState] = {}
        for row in rows:
            same = row.state is None
            state = cached[row.user_id][1] if same else decode(bytes(row.state))
            found[row.user_id] = state
            self._remember(row.user_id, row.version, state)
        for user in cached.keys() - found.keys():
            self._cache.pop(user, None)
        return [found.get(user, FeatureState()) for user in user_ids]

    def forget(self, user_id: str) -> None:
        """Drop a user from the cache."""
        self._cache.pop(user_id, None)

    def _remember(self, user_id: str, version: int, state: FeatureState) -> None:
        self._cache[user_id] = (version, state)
        self._cache.move_to_end(user_id)
        while len(self._cache) > self._most:
            self._cache.popitem(last=False)


async def lock_states(work: UnitOfWork, user_ids: Sequence[str]) -> dict[str, FeatureState]:
    """States of these users, locked against change until the transaction ends."""
    rows = await work.rows(queries.lock_states, {"user_ids": sorted(user_ids)})
    return {row.user_id: decode(bytes(row.state)) for row in rows}


async def put_states(work: UnitOfWork, states: Mapping[str, FeatureState]) -> None:
    """Store states of users."""
    users = sorted(states)
    if users:
        encoded = [encode(states[user]) for user in users]
        await work.execute(queries.put_states, {"user_ids": users, "states": encoded})
