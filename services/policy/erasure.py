"""Erases users, and knows which users were: by a keyed hash, not by name."""

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from pydantic import SecretStr

from services.policy import outbox_store
from services.policy.deliveries import State
from services.runtime.clock import Clock
from services.runtime.database import Database, UnitOfWork, load_queries
from services.runtime.secrets import derive

_queries = load_queries(Path(__file__).with_name("erasure.sql"))


class Tombstones:
    """What is left of erased users, so that late reports about them are refused."""

    def __init__(self, secret_key: SecretStr) -> None:
        self._key = derive(secret_key, "policy/erased-users")

    def key_of(self, user_id: str) -> bytes:
        """16 bytes that stand for the user without telling the id."""
        return blake2b(user_id.encode(), key=self._key, digest_size=16).digest()

    async def among(self, work: UnitOfWork, user_ids: Iterable[str]) -> set[str]:
        """Those of the users that were erased."""
        users = {self.key_of(user_id): user_id for user_id in user_ids}
        if not users:
            return set()
        rows = await work.rows(_queries.find_tombstones, {"user_keys": list(users)})
        return {users[bytes(row.user_key)] for row in rows}


class Erasure:
    """Removes everything that is kept about a user."""

    def __init__(self, database: Database, clock: Clock, tombstones: Tombstones) -> None:
        self._database = database
        self._clock = clock
        self._tombstones = tombstones

    async def erase(self, user_id: str) -> int:
        """Remove a user's rows, in one transaction; answers how many. Safe to repeat.

        Locks in the order of everyone else (deliveries, recipient, fatigue). Open deliveries count
        as dropped, so that their cells do not wait for them.
        """
        now = self._clock.now()
        asked = {"user_id": user_id}
        async with self._database.unit_of_work() as work:
            await work.rows(_queries.lock_open_deliveries, asked)
            removed = 0
            for query in (
                _queries.delete_recipient,
                _queries.delete_endpoints,
                _queries.delete_fatigue,
            ):
                removed += (await work.execute(query, asked)).rowcount
            # A decision that held the fatigue row has committed by now, and what it wrote is seen.
            rows = await work.rows(_queries.lock_open_deliveries, asked)
            open_deliveries = [outbox_store.delivery_of(row) for row in rows]
            for delivery in open_deliveries:
                delivery.state = State.DROPPED
            await outbox_store.book_volume(work, open_deliveries, now)
            for query in (
                _queries.delete_outbox,
                _queries.delete_decisions,
                _queries.delete_decided_events,
                _queries.delete_engagements,
                _queries.delete_sessions,
                _queries.delete_feed,
            ):
                removed += (await work.execute(query, asked)).rowcount
            tombstone = {"user_key": self._tombstones.key_of(user_id), "now": now}
            await work.execute(_queries.insert_tombstone, tombstone)
            await work.commit()
        return removed
