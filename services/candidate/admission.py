"""Whether an offered event is accepted, and with which defaults."""

from collections.abc import Mapping, Set
from datetime import datetime, timedelta

from services.candidate.events import Draft, Event, Refusal, Route, TypeRules

LONGEST_LIFE = timedelta(days=90)


Offered = tuple[str, datetime | None, datetime | None, datetime | None]
"""Type and times as they were offered."""
Times = tuple[datetime, datetime, datetime | None]
"""When an event was created, expires, and is delivered at the earliest."""


class Admission:
    """Judges the drafts of a batch, each by itself.

    `rules` are those of the registered types, by name; `tolerance` is how far in the future a
    publisher's clock may be. What depends on type and times alone is judged once for all drafts
    that have the same.
    """

    def __init__(
        self,
        rules: Mapping[str, TypeRules],
        now: datetime,
        *,
        tolerance: timedelta,
        deleted_items: Set[str] = frozenset(),
    ) -> None:
        self._rules = rules
        self._now = now
        self._tolerance = tolerance
        self._deleted = deleted_items
        self._judged: dict[Offered, Times | Refusal] = {}

    def admit(self, draft: Draft) -> Event | Refusal:
        """The event with its defaults, or why it is refused."""
        offered = draft.event_type, draft.create_time, draft.expire_time, draft.deliver_time
        times = self._judged.get(offered)
        if times is None:
            times = self._judged[offered] = self._times(*offered)
        if isinstance(times, Refusal):
            return times
        if self._deleted and not self._deleted.isdisjoint(draft.item_ids):
            return self._about_deleted(draft)
        create_time, expire_time, deliver_time = times
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

    def _times(
        self,
        event_type: str,
        create: datetime | None,
        expire: datetime | None,
        deliver: datetime | None,
    ) -> Times | Refusal:
        rules, now = self._rules.get(event_type), self._now
        if rules is None:
            message = f"event type {event_type!r} is not registered; register it first"
            return Refusal("UNKNOWN_EVENT_TYPE", message, "event_type")
        create_time = create or now
        if create_time > now + self._tolerance:
            return Refusal("INVALID_FIELD", "create_time lies in the future", "create_time")
        expire_time = expire or create_time + rules.time_to_live
        deliver_time = deliver if rules.route is Route.SCHEDULED else None
        refusal = _wrong_time(create_time, expire_time, deliver_time, now, self._tolerance)
        return refusal or (create_time, expire_time, deliver_time)

    def _about_deleted(self, draft: Draft) -> Refusal:
        place = next(n for n, item in enumerate(draft.item_ids) if item in self._deleted)
        message = f"item {draft.item_ids[place]!r} is deleted"
        return Refusal("ITEM_DELETED", message, f"item_ids[{place}]")


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
