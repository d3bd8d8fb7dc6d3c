"""Whether an offered event is accepted, and with which defaults."""

from collections.abc import Collection
from datetime import datetime, timedelta

from services.candidate.events import Draft, Event, Refusal, Route, TypeRules

LONGEST_LIFE = timedelta(days=90)


def admit(
    draft: Draft,
    rules: TypeRules | None,
    now: datetime,
    *,
    tolerance: timedelta,
    deleted_items: Collection[str] = (),
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
    for place, item in enumerate(draft.item_ids):
        if item in deleted_items:
            return Refusal("ITEM_DELETED", f"item {item!r} is deleted", f"item_ids[{place}]")
    return Event(
        user_id=draft.user_id,
        event_id=draft.event_id,
        event_type=draft.event_type,
        create_time=create_time,
        expire_time=expire_time,
        item_ids=draft.item_ids,
        payload=draft.payload,
        deliver_time=deliver_time,
        aggregation_key=draft.aggregation_key,
        actor_ids=draft.actor_ids,
        source=draft.source or "publish",
        campaign_id=draft.campaign_id,
        source_score=draft.source_score,
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
