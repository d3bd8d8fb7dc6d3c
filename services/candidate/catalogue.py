"""Stores users, items, interactions and relations, tells of their changes, and forgets users."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from heliograph.candidate.v1alpha1 import catalogue_pb2
from heliograph.type.v1alpha1 import event_pb2
from sqlalchemy import Row

from services.candidate import catalogue_store, event_store, withdrawals
from services.candidate.attribute_types import AttributeTypes, Owner
from services.candidate.catalogue_store import (
    QUERIES,
    Interaction,
    Record,
    Relation,
    RelationKind,
)
from services.candidate.cursors import Position
from services.candidate.event_store import QUERIES as EVENTS
from services.candidate.events import Refusal
from services.candidate.generation_store import QUERIES as WORK
from services.candidate.messages import stored_event_type, stored_item
from services.candidate.pool import check_position
from services.candidate.rotation import QUERIES as GIVEN
from services.runtime.database import Database

CHANGES_AT_A_TIME = 500
MOST_CHANGE_BYTES = 4 * 2**20
REMOVALS = (
    EVENTS.delete_user_events,
    EVENTS.delete_user_withdrawals,
    EVENTS.delete_user_arrivals,
    QUERIES.delete_user_interactions,
    QUERIES.delete_user_relations,
    QUERIES.delete_user_removed_relations,
    WORK.delete_user_memberships,
    WORK.delete_user_generated,
    GIVEN.delete_user_recommendations,
    GIVEN.leave_recommendations,
    QUERIES.delete_user,
)


@dataclass(slots=True)
class Changes:
    """Some changes in commit order."""

    position: Position
    items: list[event_pb2.Item] = field(default_factory=list)
    event_types: list[event_pb2.EventType] = field(default_factory=list)
    embeddings: list[catalogue_pb2.ItemEmbedding] = field(default_factory=list)

    def add(self, row: Row[tuple[object, ...]]) -> None:
        """Take the next change in."""
        self.position = Position(int(row.xid), row.seq)
        if "version" in row._fields:
            self.event_types.append(stored_event_type(row.body, row.version))
            return
        item = stored_item(row.body, row.create_time, row.deleted, row.content_version)
        self.items.append(item)
        if "vector" in row._fields:
            self.embeddings.append(
                catalogue_pb2.ItemEmbedding(
                    item_id=item.item_id,
                    content_version=item.content_version,
                    model=row.model,
                    vector=row.vector,
                )
            )


class CatalogueWriter:
    """What producers tell candidate about users and items."""

    def __init__(self, database: Database, types: AttributeTypes, tolerance: timedelta) -> None:
        self._database = database
        self._types = types
        self._tolerance = tolerance

    async def put_users(self, users: Sequence[Record], now: datetime) -> dict[int, Refusal]:
        """Store users; returns why some are refused, by position."""
        latest = now + self._tolerance
        refusals = {
            place: Refusal("INVALID_FIELD", "create_time lies in the future", "create_time")
            for place, user in enumerate(users)
            if user.create_time is not None and user.create_time > latest
        }
        places = [place for place in range(len(users)) if place not in refusals]
        async with self._database.unit_of_work() as work:
            good = [users[place] for place in places]
            admitted = await self._types.admitted(work, Owner.USER, good, now)
            await catalogue_store.upsert_users(work, admitted.records, now)
            await work.commit()
        return refusals | {places[place]: why for place, why in admitted.refusals.items()}

    async def put_items(self, items: Sequence[Record], now: datetime) -> dict[int, Refusal]:
        """Store items; waiting events whose items are all deleted now are cancelled. Returns why
        some are refused, by position."""
        async with self._database.unit_of_work() as work:
            admitted = await self._types.admitted(work, Owner.ITEM, items, now)
            await catalogue_store.upsert_items(work, admitted.records, now)
            deleted = [item.name for item in admitted.records if item.deleted]
            if deleted:
                await withdrawals.cancel_deleted(work, deleted, now)
            await work.commit()
        return admitted.refusals

    async def put_interactions(
        self, interactions: Sequence[Interaction], now: datetime
    ) -> dict[int, Refusal]:
        """Store interactions; returns why some are refused, by position."""
        refusals: dict[int, Refusal] = {}
        async with self._database.unit_of_work() as work:
            users = await catalogue_store.share_users(
                work, {entry.user_id for entry in interactions}
            )
            items = await catalogue_store.known_items(
                work, {entry.item_id for entry in interactions}
            )
            for place, entry in enumerate(interactions):
                refusal = self._refusal(entry, users, items, now)
                if refusal is not None:
                    refusals[place] = refusal
            good = [e for place, e in enumerate(interactions) if place not in refusals]
            await catalogue_store.insert_interactions(work, good)
            await work.commit()
        return refusals

    def _refusal(
        self, entry: Interaction, users: set[str], items: set[str], now: datetime
    ) -> Refusal | None:
        if entry.user_id not in users:
            return Refusal("UNKNOWN_USER", f"user {entry.user_id!r} is unknown", "user_id")
        if entry.item_id not in items:
            return Refusal("UNKNOWN_ITEM", f"item {entry.item_id!r} is unknown", "item_id")
        if entry.interact_time > now + self._tolerance:
            return Refusal("INVALID_FIELD", "interact_time lies in the future", "interact_time")
        return None

    async def put_relations(
        self, relations: Sequence[Relation], now: datetime
    ) -> dict[int, Refusal]:
        """Store or remove relations, of one key as the last says; returns why some are refused, by
        position."""
        refusals: dict[int, Refusal] = {}
        last: dict[tuple[str, RelationKind, str], Relation] = {}
        async with self._database.unit_of_work() as work:
            named = {name for entry in relations for name in (entry.user_id, entry.target_id)}
            users = await catalogue_store.share_users(work, named)
            for place, entry in enumerate(relations):
                refusal = _stranger(entry, users)
                if refusal is None:
                    last[entry.key] = entry
                else:
                    refusals[place] = refusal
            if stored := [entry for entry in last.values() if not entry.removed]:
                await catalogue_store.put_relations(work, stored, now)
            if removed := [entry for entry in last.values() if entry.removed]:
                await catalogue_store.remove_relations(work, removed, now)
            await work.commit()
        return refusals

    async def erase_user(self, user_id: str, now: datetime) -> int:
        """Remove everything about a user; returns how many rows that were."""
        async with self._database.unit_of_work() as work:
            user = {"user_id": user_id}
            await work.execute(QUERIES.lock_user, user)
            rows = await work.rows(EVENTS.waiting_of_user, user)
            waiting = [(row.user_id, row.event_id) for row in rows]
            await event_store.cancel(work, waiting, "USER_ERASED", now)
            removed = 0
            for query in REMOVALS:
                removed += (await work.execute(query, user)).rowcount
            if removed:
                await work.execute(QUERIES.insert_erasure, {"now": now})
            await work.commit()
        return removed

    async def changes(self, after: Position, *, embeddings: bool = False) -> AsyncIterator[Changes]:
        """Changes of items and event types after a position, up to the present; with `embeddings`
        also of the items' embeddings. Raises OutOfRange for a position that does not exist yet."""
        while True:
            changes, more = await self._next_changes(after, embeddings)
            if changes.items or changes.event_types:
                yield changes
            if not more:
                return
            after = changes.position

    async def _next_changes(self, after: Position, embeddings: bool) -> tuple[Changes, bool]:
        logs = [QUERIES.changed_items, QUERIES.changed_event_types]
        if embeddings:
            logs[:1] = [QUERIES.changed_items_without_embedding, QUERIES.changed_embeddings]
        params = {"xid": str(after.xid), "seq": after.seq, "count": CHANGES_AT_A_TIME}
        async with self._database.read() as work:
            await check_position(work, after)
            rows = [row for log in logs for row in await work.rows(log, params)]
        rows.sort(key=lambda row: (int(row.xid), row.seq))
        changes, size = Changes(after), 0
        for taken, row in enumerate(rows):
            size += len(row.body)
            if taken == CHANGES_AT_A_TIME or (taken and size > MOST_CHANGE_BYTES):
                return changes, True
            changes.add(row)
        return changes, len(rows) == CHANGES_AT_A_TIME


def _stranger(entry: Relation, users: set[str]) -> Refusal | None:
    """Why a relation is refused whose users aren't all stored; one that ends may be of anyone."""
    if entry.removed:
        return None
    if entry.user_id not in users:
        return Refusal("UNKNOWN_USER", f"user {entry.user_id!r} is unknown", "user_id")
    if entry.kind is RelationKind.FRIEND and entry.target_id not in users:
        return Refusal("UNKNOWN_USER", f"user {entry.target_id!r} is unknown", "target_id")
    return None
