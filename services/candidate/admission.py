"""Whether an offered event is accepted, and with which defaults."""

from collections.abc import Set
from datetime import datetime, timedelta

from services.candidate.events import Draft, Event, Refusal, Route, TypeRules

LONGEST_LIFE = timedelta(days=90)


def admit(
    draft: Draft,
    rules: TypeRules | None,
    now: datetime,
    *,
    tolerance: timedelta,
    deleted_items: Set[str] = frozenset(),
) -> Event | Refusal:
    """The event with its defaults, or why it is refused.

    `rules` are those of its type, None when the type is not registered; `tolerance` is how far in
    the future a publisher's clock may be.
    """
    if rules is None:
        message = f"event type {draft.event_type!r} is not registered; register it first"
        return Refusal("UNKNOWN_EVENT_TYPE", message, "event_type")
    create_time = draft.create_time or now
    if create_time > now + tolerance:
        return Refusal("INVALID_FIELD", "create_time lies in the future", "create_time")
    expire_time = draft.expire_time or create_time + rules.time_to_live
    deliver_time = draft.deliver_time if rules.route is Route.SCHEDULED else None
    refusal = _wrong_time(create_time, expire_time, deliver_time, now, tolerance)
    if refusal is not None:
        return refusal
    if not deleted_items.isdisjoint(draft.item_ids):
        place = next(n for n, item in enumerate(draft.item_ids) if item in deleted_items)
        message = f"item {draft.item_ids[place]!r} is deleted"
        return Refusal("ITEM_DELETED", message, f"item_ids[{place}]")
    return Event(  # by position, as naming the fields would double its cost
        draft.user_id,
        draft.event_id,
        draft.event_type,
        create_time,
        expire_time,
        draft.item_ids,
        draft.payload,
        deliver_time,
        draft.aggregation_key,
        draft.actor_ids,
        draft.source or "publish",
        draft.campaign_id,
        draft.source_score,
    )


def _wrong_time(
    create: datetime,
    expire: datetime,
    deliver: datetime | None,
    now: datetime,
    tolerance: timedelta,
) -> Refusal | None:
    if expire <= create:
        return Refusal("INVALID_FIELD", "expire_time must be after create_time", "expire_time")
    if expire <= now:
        return Refusal("EXPIRED", f"the event expired at {expire.isoformat()}", "expire_time")
    if expire > now + LONGEST_LIFE + tolerance:
        return Refusal("INVALID_FIELD", "expire_time is more than 90 days away", "expire_time")
    if deliver is not None and deliver >= expire:
        return Refusal("INVALID_FIELD", "deliver_time must be before expire_time", "deliver_time")
    return None
