"""PickVariants: the words of deliveries, looked up or drawn once and stored."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from heliograph.copygen.v1alpha1 import copygen_pb2
from heliograph.type.v1alpha1 import attribute_pb2, event_pb2, status_pb2

from services.copygen import store
from services.copygen.content import (
    ItemContent,
    Wording,
    choose_wording,
    locale_chain,
    template_values,
    words,
)
from services.copygen.drawing import TEMPLATE, LiveVariant, draw
from services.copygen.following import ContentFollower
from services.copygen.settings import CopygenSettings
from services.copygen.store import Choice
from services.runtime.clock import Clock
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import FieldError
from services.runtime.templates import TemplateError
from services.runtime.validation import ItemRules, rejection

Delivery = tuple[int, copygen_pb2.DeliveryKey]
OLDEST = timedelta(days=35)
"""Age of the oldest delivery that is still worded."""


@dataclass(slots=True)
class _Content:
    """What the deliveries of one batch are about."""

    types: dict[str, event_pb2.EventType]
    items: dict[str, event_pb2.Item]
    variants: dict[tuple[str, str, int], list[tuple[str, LiveVariant]]] = field(
        default_factory=dict
    )

    def missing(self, deliveries: Sequence[Delivery]) -> bool:
        return any(
            key.event.event_type not in self.types
            or any(item not in self.items for item in key.event.item_ids)
            for _, key in deliveries
        )


_BEHIND = (
    "its items or event type are not known here yet, and candidate can't be reached; try again"
)


class Picker:
    """Words for deliveries. The template needs nothing but the database (invariant 9)."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        follower: ContentFollower,
        settings: CopygenSettings,
    ) -> None:
        self._database = database
        self._clock = clock
        self._follower = follower
        self._settings = settings

    async def pick(
        self, deliveries: Sequence[copygen_pb2.DeliveryKey], *, dry_run: bool
    ) -> tuple[list[Choice], list[status_pb2.Rejection]]:
        """Choices in the order of the accepted deliveries, and the rejections."""
        accepted, rejections = _accepted(deliveries, self._clock.now().date())
        async with self._database.read() as work:
            stored = await store.read_choices(work, [key.delivery_id for _, key in accepted])
            fresh = [(index, key) for index, key in accepted if key.delivery_id not in stored]
            content = await _content(work, fresh)
        behind = False
        if content.missing(fresh):
            behind = not await self._follower.reached()
            async with self._database.read() as work:
                content = await _content(work, fresh)
        drawn: dict[str, Choice] = {}
        for index, key in fresh:
            outcome: Choice | status_pb2.Rejection
            if behind and content.missing([(index, key)]):
                outcome = rejection(index, "CONTENT_UNAVAILABLE", _BEHIND)
            else:
                outcome = self._draw(index, key, content)
            if isinstance(outcome, Choice):
                drawn[key.delivery_id] = outcome
            else:
                rejections.append(outcome)
        if drawn and not dry_run:
            stored |= await self._store(list(drawn.values()))
        found = drawn | stored
        choices = [found[key.delivery_id] for _, key in accepted if key.delivery_id in found]
        return choices, sorted(rejections, key=lambda rejected: rejected.index)

    async def _store(self, choices: Sequence[Choice]) -> dict[str, Choice]:
        """Store, then read back: where another call was first, its choice stands."""
        async with self._database.unit_of_work() as work:
            await store.insert_choices(work, choices)
            found = await store.read_choices(work, [choice.delivery_id for choice in choices])
            await work.commit()
        return found

    def _draw(
        self, index: int, key: copygen_pb2.DeliveryKey, content: _Content
    ) -> Choice | status_pb2.Rejection:
        name = key.event.event_type
        kind = content.types.get(name)
        if kind is None:
            return rejection(index, "UNKNOWN_EVENT_TYPE", f"no event type is named {name!r}")
        variants = _fitting(key, content)
        drawn = draw(
            key.delivery_id,
            variants,
            key.style,
            self._settings.template_share,
            self._settings.draw_salt,
        )
        if drawn.variant is not None:
            chosen = drawn.variant
            parts = (chosen.variant_id, chosen.style, chosen.title, chosen.body)
            return Choice(key.delivery_id, key.user_id, *parts, drawn.propensity)
        wording = choose_wording(_wordings(kind), key.channel, key.locale)
        if wording is None:
            return rejection(
                index, "NO_TEMPLATE", f"event type {name!r} has no template for this channel"
            )
        try:
            title, body = words(wording, _values(key, content.items))
        except TemplateError as error:
            return rejection(index, "TEMPLATE_FAILED", f"the template of {name!r}: {error}")
        return Choice(key.delivery_id, key.user_id, TEMPLATE, "", title, body, drawn.propensity)


def _accepted(
    deliveries: Sequence[copygen_pb2.DeliveryKey], today: date
) -> tuple[list[Delivery], list[status_pb2.Rejection]]:
    accepted: list[Delivery] = []
    rejections, rules = [], ItemRules(deliveries)
    seen: set[str] = set()
    for index, key in enumerate(deliveries):
        if wrong := rules.rejection(index, key):
            rejections.append(wrong)
        elif not _is_current(store.day_of(key.delivery_id), today):
            problem = "must begin with a day, YYYYMMDD., of the last 35 days"
            fields = [FieldError("delivery_id", problem)]
            rejections.append(rejection(index, "INVALID_FIELD", f"delivery_id {problem}", fields))
        elif key.delivery_id in seen:
            rejections.append(rejection(index, "DUPLICATE", "the delivery is in the batch already"))
        else:
            seen.add(key.delivery_id)
            accepted.append((index, key))
    return accepted, rejections


def _is_current(day: date | None, today: date) -> bool:
    """Whether a delivery of this day may still come: each day has a partition of its own."""
    return day is not None and today - OLDEST <= day <= today + timedelta(days=1)


async def _content(work: UnitOfWork, deliveries: Sequence[Delivery]) -> _Content:
    names = {key.event.event_type for _, key in deliveries}
    item_ids = {item for _, key in deliveries for item in key.event.item_ids}
    if not names:
        return _Content({}, {})
    content = _Content(
        await store.read_event_types(work, names), await store.read_items(work, item_ids)
    )
    for row in await store.live_variants(work, names, item_ids):
        variant = LiveVariant(row.variant_id, row.style, row.title, row.body)
        place = (row.event_type, row.item_id, row.channel)
        content.variants.setdefault(place, []).append((row.locale.lower(), variant))
    return content


def _fitting(key: copygen_pb2.DeliveryKey, content: _Content) -> list[LiveVariant]:
    """Variants about the event's first item or any, in the reader's locale or any."""
    locales = locale_chain(key.locale)
    about = ["", *key.event.item_ids[:1]]
    return [
        variant
        for item in about
        for locale, variant in content.variants.get((key.event.event_type, item, key.channel), ())
        if locale in locales
    ]


def _wordings(kind: event_pb2.EventType) -> list[Wording]:
    return [Wording(t.channel, t.locale, t.title, t.body) for t in kind.templates]


def _values(key: copygen_pb2.DeliveryKey, items: dict[str, event_pb2.Item]) -> dict[str, object]:
    event = key.event
    known = [_item(items[item_id]) for item_id in event.item_ids if item_id in items]
    actors, count = max(len(event.actor_ids), event.actor_count), max(1, event.merged_count)
    return template_values(dict(event.payload), known, event.actor_ids, actors, count, key.locale)


def _item(item: event_pb2.Item) -> ItemContent:
    attributes = {name: plain_value(value) for name, value in item.attributes.items()}
    return ItemContent(item.item_id, item.title, item.text, item.item_type, attributes)


def plain_value(value: attribute_pb2.AttributeValue) -> object:
    """An attribute as a template sees it."""
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return list(value.list_value.values)
    if kind == "map_value":
        return dict(value.map_value.values)
    if kind == "time_value":
        return value.time_value.ToDatetime().isoformat()
    if kind == "duration_value":
        return value.duration_value.ToTimedelta().total_seconds()
    return getattr(value, kind) if kind else None
