"""The outbox's statements: leases, ends, and what ends do to volume, caps and endpoints."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from services.policy.deliveries import Delivery, Receiver, State
from services.policy.preferences import QuietHours
from services.runtime.database import UnitOfWork, load_queries
from services.runtime.partitions import ensure_day_partitions

_queries = load_queries(Path(__file__).with_name("outbox.sql"))
_values_of = attrgetter(*(field.name for field in fields(Delivery)))


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that may be leased, with its receiver and endpoint as they are now."""

    delivery: Delivery
    receiver: Receiver | None
    sealed_address: bytes | None


async def take_due(work: UnitOfWork, now: datetime, limit: int) -> list[Due]:
    """Lock the oldest deliveries that are due and that no other transaction holds."""
    rows = await work.rows(_queries.due_deliveries, {"now": now, "limit": limit})
    return [_due(row) for row in rows]


async def lease(
    work: UnitOfWork, deliveries: Sequence[Delivery], owner: str, lease_end: datetime
) -> None:
    """Give locked deliveries to an owner; one more attempt each."""
    if not deliveries:
        return
    columns = {
        "owner": owner,
        "lease_end": lease_end,
        "days": [delivery.day for delivery in deliveries],
        "delivery_ids": [delivery.delivery_id for delivery in deliveries],
        "address_keys": [delivery.address_key for delivery in deliveries],
    }
    await work.execute(_queries.lease_deliveries, columns)


async def lock(work: UnitOfWork, keys: Iterable[tuple[date, str]]) -> dict[str, Delivery]:
    """Deliveries by (day, id), locked; those that don't exist are missing."""
    days, ids = set[date](), set[str]()
    for day, delivery_id in keys:
        days.add(day)
        ids.add(delivery_id)
    if not ids:
        return {}
    asked = {"days": sorted(days), "delivery_ids": sorted(ids)}
    rows = await work.rows(_queries.lock_deliveries, asked)
    return {row.delivery_id: delivery_of(row) for row in rows}


async def store_states(work: UnitOfWork, deliveries: Sequence[Delivery]) -> None:
    """Write the states of locked deliveries."""
    if not deliveries:
        return
    columns = {
        "days": [delivery.day for delivery in deliveries],
        "delivery_ids": [delivery.delivery_id for delivery in deliveries],
        "states": [delivery.state.value for delivery in deliveries],
        "due_times": [delivery.due_time for delivery in deliveries],
        "variant_ids": [delivery.variant_id for delivery in deliveries],
        "styles": [delivery.style for delivery in deliveries],
        "errors": [delivery.error for delivery in deliveries],
        "end_times": [delivery.end_time for delivery in deliveries],
    }
    await work.execute(_queries.store_states, columns)


async def book_volume(work: UnitOfWork, ended: Sequence[Delivery], now: datetime) -> None:
    """Append volume rows for deliveries that were handed over, dropped or given up.

    Booked on the UTC day of their decision. Critical ones count when handed over, never when not.
    """
    counts = Counter(
        (
            delivery.decide_time.astimezone(UTC).date(),
            delivery.experiment_group,
            delivery.segment,
            delivery.channel,
            _volume_kind(delivery),
        )
        for delivery in ended
        if not delivery.critical or delivery.state is State.DELIVERED
    )
    if not counts:
        return
    cells = sorted(counts)
    await ensure_day_partitions(work, "volume", {cell[0] for cell in cells})
    days, groups, segments, channels, kinds = zip(*cells, strict=True)
    columns = {
        "now": now,
        "days": list(days),
        "groups": list(groups),
        "segments": list(segments),
        "channels": list(channels),
        "kinds": list(kinds),
        "counts": [counts[cell] for cell in cells],
    }
    await work.execute(_queries.append_volume, columns)


async def give_caps_back(work: UnitOfWork, deliveries: Sequence[Delivery]) -> None:
    """Take deliveries that did not reach their users out of the users' caps and gaps."""
    if not deliveries:
        return
    users = sorted({delivery.user_id for delivery in deliveries})
    ids = [delivery.delivery_id for delivery in deliveries]
    await work.execute(_queries.lock_fatigue, {"user_ids": users})
    await work.execute(_queries.give_caps_back, {"user_ids": users, "delivery_ids": ids})


async def mark_unreachable(work: UnitOfWork, deliveries: Sequence[Delivery]) -> None:
    """Mark the endpoints of these deliveries' last leases as not working."""
    marked = [delivery for delivery in deliveries if delivery.address_key is not None]
    if not marked:
        return
    users = sorted({delivery.user_id for delivery in marked})
    await work.execute(_queries.lock_recipients, {"user_ids": users})
    columns = {
        "user_ids": [delivery.user_id for delivery in marked],
        "channels": [delivery.channel for delivery in marked],
        "address_keys": [delivery.address_key for delivery in marked],
    }
    await work.execute(_queries.mark_unreachable, columns)
    await work.execute(_queries.refresh_reachable, {"user_ids": users})


def _volume_kind(delivery: Delivery) -> str:
    if delivery.state is not State.DELIVERED:
        return "dropped"
    return "critical" if delivery.critical else "sent"


def _due(row: Row[Any]) -> Due:
    receiver = None
    if row.opt_ins is not None:
        receiver = Receiver(
            row.opt_ins,
            row.muted_channels,
            row.muted_topics,
            row.unsubscribed_topics,
            row.snooze_until,
            row.time_zone,
            None if row.quiet_start is None else QuietHours(row.quiet_start, row.quiet_end),
        )
    sealed = row.sealed_address
    return Due(delivery_of(row), receiver, None if sealed is None else bytes(sealed))


def delivery_of(row: Row[Any]) -> Delivery:
    """A delivery from a row with all its columns."""
    delivery = Delivery(*_values_of(row))
    delivery.state = State(delivery.state)
    return delivery
