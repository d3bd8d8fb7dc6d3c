"""Copygen's tables: content copies, choices, variants."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from heliograph.type.v1alpha1 import event_pb2
from sqlalchemy import Row

from services.runtime.database import UnitOfWork, load_queries
from services.runtime.errors import NotFound
from services.runtime.partitions import ensure_day_partitions

queries = load_queries(Path(__file__).with_name("queries.sql"))

DAY_TABLES = ("choices", "outcomes")
STATE_PENDING, STATE_LIVE, STATE_BLOCKED = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Choice:
    """The words of one delivery, as stored."""

    delivery_id: str
    user_id: str
    variant_id: str
    style: str
    title: str
    body: str
    propensity: float


@dataclass(frozen=True, slots=True)
class StoredVariant:
    """A variant with its place in the list."""

    variant_id: str
    event_type: str
    item_id: str
    channel: int
    locale: str
    style: str
    title: str
    body: str
    state: int
    reward: float
    writer: str
    create_time: datetime
    seq: int = 0


def day_of(key: str) -> date | None:
    """The day, in the years 1970–9998, that a delivery or decision id begins with; None when it
    doesn't begin with one."""
    try:
        day = datetime.strptime(key[:8], "%Y%m%d").date() if key[8:9] == "." else None
    except ValueError:
        return None
    return day if day is not None and 1970 <= day.year < 9999 else None


async def put_items(work: UnitOfWork, items: Sequence[event_pb2.Item]) -> None:
    """Keep the newest version of each item."""
    newest = {item.item_id: item for item in items}
    parameters = {
        "ids": list(newest),
        "versions": [item.content_version for item in newest.values()],
        "items": [item.SerializeToString() for item in newest.values()],
    }
    await work.execute(queries.put_items, parameters)


async def put_event_types(work: UnitOfWork, types: Sequence[event_pb2.EventType]) -> None:
    """Keep the newest version of each event type."""
    newest = {kind.name: kind for kind in types}
    parameters = {
        "names": list(newest),
        "versions": [kind.version for kind in newest.values()],
        "types": [kind.SerializeToString() for kind in newest.values()],
    }
    await work.execute(queries.put_event_types, parameters)


async def read_items(work: UnitOfWork, ids: Iterable[str]) -> dict[str, event_pb2.Item]:
    """Copies of items by id; those not known are left out."""
    rows = await work.rows(queries.read_items, {"ids": sorted(set(ids))})
    return {row.item_id: event_pb2.Item.FromString(row.item) for row in rows}


async def read_event_types(
    work: UnitOfWork, names: Iterable[str]
) -> dict[str, event_pb2.EventType]:
    """Copies of event types by name; those not known are left out."""
    rows = await work.rows(queries.read_event_types, {"names": sorted(set(names))})
    return {row.name: event_pb2.EventType.FromString(row.event_type) for row in rows}


async def read_choices(work: UnitOfWork, delivery_ids: Sequence[str]) -> dict[str, Choice]:
    """Stored choices by delivery."""
    days = {day for key in delivery_ids if (day := day_of(key)) is not None}
    parameters = {"days": sorted(days), "ids": list(delivery_ids)}
    rows = await work.rows(queries.read_choices, parameters)
    return {
        row.delivery_id: Choice(
            row.delivery_id, "", row.variant_id, row.style, row.title, row.body, row.propensity
        )
        for row in rows
    }


async def insert_choices(work: UnitOfWork, choices: Sequence[Choice]) -> None:
    """Store choices; a delivery that has one already keeps it."""
    days = [_day(choice.delivery_id) for choice in choices]
    await ensure_day_partitions(work, "choices", set(days))
    parameters = {
        "days": days,
        "ids": [choice.delivery_id for choice in choices],
        "user_ids": [choice.user_id for choice in choices],
        "variant_ids": [choice.variant_id for choice in choices],
        "styles": [choice.style for choice in choices],
        "titles": [choice.title for choice in choices],
        "bodies": [choice.body for choice in choices],
        "propensities": [choice.propensity for choice in choices],
    }
    await work.execute(queries.insert_choices, parameters)


def _day(key: str) -> date:
    day = day_of(key)
    if day is None:
        raise ValueError(f"{key!r} does not begin with a day")
    return day


async def live_variants(
    work: UnitOfWork, event_types: Iterable[str], item_ids: Iterable[str]
) -> list[Row[Any]]:
    """Variants that may be chosen for events of these types about these items."""
    parameters = {"event_types": sorted(set(event_types)), "item_ids": sorted(set(item_ids))}
    return await work.rows(queries.live_variants, parameters)


async def list_variants(
    work: UnitOfWork, event_type: str, item_id: str, before: int | None, limit: int
) -> list[StoredVariant]:
    """Variants of an event type, newest first."""
    parameters = {"event_type": event_type, "item_id": item_id, "before": before, "limit": limit}
    return [_variant(row) for row in await work.rows(queries.list_variants, parameters)]


async def review(
    work: UnitOfWork, variant_id: str, state: int, note: str, now: datetime
) -> StoredVariant:
    """Change a variant's state and add to the audit trail. Raises NotFound."""
    rows = await work.rows(queries.review_variant, {"variant_id": variant_id, "state": state})
    if not rows:
        raise NotFound(f"there is no variant {variant_id!r}", reason="UNKNOWN_VARIANT")
    trail = {"variant_id": variant_id, "state": state, "note": note, "review_time": now}
    await work.execute(queries.insert_review, trail)
    return _variant(rows[0])


def _variant(row: Row[Any]) -> StoredVariant:
    return StoredVariant(**row._mapping)
