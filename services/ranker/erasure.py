"""Removes all that is known of a user."""

from services.ranker import rank_log
from services.ranker.feature_store import FeatureStore, queries
from services.runtime.database import Database


class Eraser:
    """Erases from the feature state, the logs and the cache."""

    def __init__(self, database: Database, store: FeatureStore) -> None:
        self._database = database
        self._store = store

    async def erase(self, user_id: str) -> int:
        """How many rows were removed: 0 when called again. Counts in items' history, which no
        longer name the user, stay."""
        async with self._database.unit_of_work() as work:
            states = await work.execute(queries.erase_states, {"user_id": user_id})
            removed = states.rowcount + await rank_log.erase(work, user_id)
            await work.commit()
        self._store.forget(user_id)
        return removed
