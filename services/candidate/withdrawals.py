"""Taking events back: those that wait end as cancelled, and those on their way out are stopped.

An event that was sent keeps its end, and its withdrawal is recorded beside it: by its key, or by
item or campaign for all that were accepted until then. Whoever hands messages to channels asks just
before (`withdrawn`).
"""

from collections.abc import Collection
from datetime import datetime
from enum import IntEnum

from services.candidate import event_store, literals
from services.candidate.event_store import QUERIES, EventKey, keys_of
from services.runtime.database import UnitOfWork


class Subject(IntEnum):
    """What was withdrawn; numbers as in the table."""

    ITEM = 2
    CAMPAIGN = 3


async def withdraw(
    work: UnitOfWork,
    *,
    keys: Collection[EventKey] = (),
    item_ids: Collection[str] = (),
    campaign_ids: Collection[str] = (),
    reason: str,
    now: datetime,
) -> list[EventKey]:
    """Take back events by key, and all about the items or of the campaigns that have been accepted
    so far; returns those that waited and are cancelled now."""
    about = await event_store.waiting_about(work, item_ids, campaign_ids)
    cancelled = await event_store.cancel(work, {*keys, *about}, reason, now)
    await _record(work, Subject.ITEM, item_ids, now)
    await _record(work, Subject.CAMPAIGN, campaign_ids, now)
    if keys:
        await work.execute(QUERIES.withdraw_sent, keys_of(keys) | {"now": now})
    return cancelled


async def cancel_deleted(
    work: UnitOfWork, item_ids: Collection[str], now: datetime
) -> list[EventKey]:
    """Cancel waiting events that have only deleted items left, these among them."""
    rows = await work.rows(QUERIES.waiting_without_item, {"item_ids": list(item_ids)})
    keys = [(row.user_id, row.event_id) for row in rows]
    return await event_store.cancel(work, keys, "ITEM_DELETED", now)


async def withdrawn(work: UnitOfWork, keys: Collection[EventKey]) -> list[EventKey]:
    """Those of the events that must not be handed to a channel: cancelled, withdrawn since they
    were accepted, or about an item that is deleted. Unknown ones aren't among them."""
    rows = await work.rows(QUERIES.withdrawn_events, keys_of(keys))
    return [(row.user_id, row.event_id) for row in rows]


async def _record(
    work: UnitOfWork, subject: Subject, names: Collection[str], now: datetime
) -> None:
    if names:
        params = {"subject": int(subject), "names": literals.texts(sorted(set(names))), "now": now}
        await work.execute(QUERIES.put_withdrawals, params)
