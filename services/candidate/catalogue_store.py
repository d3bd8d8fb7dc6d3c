"""Users, items, interactions and relations in Postgres."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import TextClause

from services.candidate import literals
from services.candidate.expressions import AttributeType
from services.candidate.messages import item_title, user_time_zone
from services.runtime.database import UnitOfWork, load_queries

QUERIES = load_queries(Path(__file__).with_name("catalogue_queries.sql"))


@dataclass(frozen=True, slots=True)
class Record:
    """A user or an item to be stored."""

    name: str
    body: bytes
    create_time: datetime | None
    deleted: bool = False
    types: Mapping[str, AttributeType] = field(default_factory=dict)
    """Type by attribute, as the body has them."""


@dataclass(frozen=True, slots=True)
class Interaction:
    """Something a user did with an item."""

    user_id: str
    item_id: str
    interact_time: datetime
    weight: float
    kind: str
    recommendation_id: str = ""
    """The recommendation that it follows; empty: none."""


class RelationKind(IntEnum):
    """What a relation says; numbers as in the protos and tables."""

    FOLLOWS = 1
    FRIEND = 2


@dataclass(frozen=True, slots=True)
class Relation:
    """A tie between a user and a target; a friendship is told from either side."""

    user_id: str
    kind: RelationKind
    target_id: str
    strength: float
    removed: bool

    @property
    def key(self) -> tuple[str, RelationKind, str]:
        """The natural key: the same from either side of a friendship."""
        if self.kind is RelationKind.FRIEND and self.target_id < self.user_id:
            return self.target_id, self.kind, self.user_id
        return self.user_id, self.kind, self.target_id


async def upsert_users(work: UnitOfWork, users: Sequence[Record], now: datetime) -> None:
    """Store users; of several with one id the last counts."""
    await work.execute(QUERIES.upsert_users, _records(users, now))


async def upsert_items(work: UnitOfWork, items: Sequence[Record], now: datetime) -> None:
    """Store items; of several with one id the last counts."""
    kept = {item.name: item.deleted for item in items}
    params = _records(items, now) | {"deleted": literals.flags(kept.values())}
    await work.execute(QUERIES.upsert_items, params)


async def insert_interactions(work: UnitOfWork, interactions: Sequence[Interaction]) -> None:
    """Store interactions of users and items that exist."""
    params = {
        "user_ids": literals.texts(entry.user_id for entry in interactions),
        "item_ids": literals.texts(entry.item_id for entry in interactions),
        "times": literals.times(entry.interact_time for entry in interactions),
        "weights": literals.numbers(entry.weight for entry in interactions),
        "kinds": literals.texts(entry.kind for entry in interactions),
        "recommendation_ids": literals.texts(entry.recommendation_id for entry in interactions),
    }
    await work.execute(QUERIES.insert_interactions, params)


async def put_relations(work: UnitOfWork, relations: Collection[Relation], now: datetime) -> None:
    """Store relations, each key once."""
    params = _relation_keys(relations) | {
        "strengths": literals.numbers(entry.strength for entry in relations),
        "now": now,
    }
    await work.execute(QUERIES.upsert_relations, params)


async def remove_relations(
    work: UnitOfWork, relations: Collection[Relation], now: datetime
) -> None:
    """Remove relations; what isn't stored is no error."""
    await work.execute(QUERIES.delete_relations, _relation_keys(relations) | {"now": now})


async def share_users(work: UnitOfWork, user_ids: Collection[str]) -> set[str]:
    """Those of the users that exist; they can't be removed before this unit of work ends."""
    rows = await work.rows(QUERIES.share_users, {"user_ids": literals.texts(set(user_ids))})
    return {row.user_id for row in rows}


async def known_items(work: UnitOfWork, item_ids: Collection[str]) -> set[str]:
    """Those of the items that are stored, deleted ones too."""
    return await _items(work, QUERIES.known_items, item_ids)


async def deleted_items(work: UnitOfWork, item_ids: Collection[str]) -> set[str]:
    """Those of the items that are stored and deleted."""
    return await _items(work, QUERIES.deleted_items, item_ids)


async def item_titles(work: UnitOfWork, item_ids: Collection[str]) -> dict[str, str]:
    """Titles of those of the items that are stored."""
    if not item_ids:
        return {}
    params = {"item_ids": literals.texts(item_ids)}
    rows = await work.rows(QUERIES.get_item_bodies, params)
    return {row.item_id: item_title(row.body) for row in rows}


async def time_zones(work: UnitOfWork, user_ids: Collection[str]) -> dict[str, ZoneInfo]:
    """The time zones of users."""
    if not user_ids:
        return {}
    rows = await work.rows(QUERIES.get_user_bodies, {"user_ids": list(user_ids)})
    return {row.user_id: user_time_zone(row.body) for row in rows}


async def _items(work: UnitOfWork, query: TextClause, item_ids: Collection[str]) -> set[str]:
    if not item_ids:
        return set()
    rows = await work.rows(query, {"item_ids": literals.texts(set(item_ids))})
    return {row.item_id for row in rows}


def _relation_keys(relations: Collection[Relation]) -> dict[str, object]:
    keys = [relation.key for relation in relations]
    return {
        "user_ids": literals.texts(user for user, _, _ in keys),
        "kinds": literals.numbers(int(kind) for _, kind, _ in keys),
        "target_ids": literals.texts(target for _, _, target in keys),
    }


def _records(records: Sequence[Record], now: datetime) -> dict[str, object]:
    kept = {record.name: record for record in records}
    return {
        "ids": literals.texts(kept),
        "bodies": literals.binaries(record.body for record in kept.values()),
        "create_times": literals.times(record.create_time for record in kept.values()),
        "undated": literals.texts(
            name for name, record in kept.items() if record.create_time is None
        ),
        "now": now,
    }
