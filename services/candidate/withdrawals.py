"""Taking events back: those that wait end as cancelled, and those on their way out are stopped.

An event that was sent keeps its end, and its withdrawal is recorded beside it: by its key, or by
item or campaign for all that were accepted until then. Whoever hands messages to channels asks just
before (`withdrawn`).
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

from services.candidate import event_store, literals
from services.candidate.event_store import QUERIES, EventKey, keys_of
from services.runtime.database import UnitOfWork


class Subject(IntEnum):
    """What was withdrawn; numbers as in the table."""

    ITEM = 2
    CAMPAIGN = 3


class Decided(NamedTuple):
    """An event whose message is on its way out."""

    user_id: str
    event_id: str
    item_ids: Sequence[str]
    """The items that the message names: those that the decision was handed."""


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


async def withdrawn(work: UnitOfWork, decided: Collection[Decided]) -> list[EventKey]:
    """Those of the events that must not be handed to a channel, each once: cancelled, withdrawn
    since they were accepted, or with a message that names a deleted item. Unknown ones aren't among
    them."""
    params = keys_of((event.user_id, event.event_id) for event in decided) | {
        "item_ids": literals.texts(literals.texts(event.item_ids) for event in decided)
    }
    rows = await work.rows(QUERIES.withdrawn_events, params)
    return [(row.user_id, row.event_id) for row in rows]


async def _record(
    work: UnitOfWork, subject: Subject, names: Collection[str], now: datetime
) -> None:
    if names:
        params = {"subject": int(subject), "names": literals.texts(sorted(set(names))), "now": now}
        await work.execute(QUERIES.put_withdrawals, params)
