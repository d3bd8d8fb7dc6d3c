"""Whether an offered event is accepted, and with which defaults."""

from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import datetime, timedelta
from itertools import repeat
from operator import attrgetter
from typing import cast

from services.candidate.events import Draft, Event, Refusal, Route, TypeRules

LONGEST_LIFE = timedelta(days=90)


Offered = tuple[str, datetime | None, datetime | None, datetime | None]
"""Type and times as they were offered."""
_OFFERED = attrgetter("event_type", "create_time", "expire_time", "deliver_time")
Times = tuple[datetime, datetime, datetime | None]
"""When an event was created, expires, and is delivered at the earliest."""


class Admission:
    """Judges drafts, each by itself.

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

    def admit(self, drafts: Sequence[Draft]) -> list[Event | Refusal]:
        """For each draft, of which there is at least one, the event with its defaults, or why it is
        refused."""
        offered: list[Offered] = list(map(_OFFERED, drafts))
        times = {one: self._times(*one) for one in set(offered)}
        verdicts = [times[one] for one in offered]
        if not self._deleted and not any(isinstance(one, Refusal) for one in times.values()):
            return list(_events(drafts, cast(Sequence[Times], verdicts)))
        return [
            self._admitted(draft, verdict) for draft, verdict in zip(drafts, verdicts, strict=True)
        ]

    def _admitted(self, draft: Draft, times: Times | Refusal) -> Event | Refusal:
        if isinstance(times, Refusal):
            return times
        if not self._deleted.isdisjoint(draft.item_ids):
            return self._about_deleted(draft)
        (event,) = _events([draft], [times])
        return event

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


def _events(drafts: Sequence[Draft], times: Sequence[Times]) -> Iterator[Event]:
    users, ids, types, _, _, _, _, items, payloads, _, keys, actors, sources, campaigns, scores = (
        zip(*drafts, strict=True)
    )
    creates, expires, delivers = zip(*times, strict=True)
    columns = zip(  # in the order of Event's fields
        users,
        ids,
        types,
        creates,
        expires,
        items,
        payloads,
        delivers,
        keys,
        actors,
        [source or "publish" for source in sources],
        campaigns,
        scores,
        repeat(1),
        repeat(()),
        strict=False,
    )
    return map(Event._make, columns)


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
