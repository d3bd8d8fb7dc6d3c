"""Protos to the domain's values and back."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.candidate.v1alpha1 import pool_pb2
from heliograph.type.v1alpha1 import attribute_pb2, event_pb2, notification_pb2

from services.candidate.digests import DigestRules, zone_of
from services.candidate.events import Draft, Event, Refusal, Route, TypeRules
from services.candidate.expressions import AttributeType, converted, read_value, value_type
from services.candidate.sketches import unpack
from services.runtime.screening import Columns

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DEFAULT_TIME_TO_LIVE = timedelta(days=3)


class Refused(Exception):
    """One item of a batch is malformed in a way that the proto's rules don't see."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def read_time(moment: Timestamp, path: str) -> datetime:
    """Aware UTC time. Raises Refused when it lies outside the years 1 to 9999."""
    try:
        return moment.ToDatetime(UTC)
    except (ValueError, OverflowError):
        message = f"{path} is not a time between the years 1 and 9999"
        raise Refused(Refusal("INVALID_FIELD", message, path)) from None


def write_time(moment: datetime) -> Timestamp:
    """Proto form of an aware time."""
    since = moment - EPOCH  # exact, and several times faster than Timestamp.FromDatetime
    return Timestamp(seconds=since.days * 86400 + since.seconds, nanos=since.microseconds * 1000)


def require_plain(text: str, path: str) -> str:
    """The text. Raises Refused when it has a NUL character, which Postgres does not store."""
    if "\0" in text:
        raise Refused(Refusal("INVALID_FIELD", f"{path} contains a NUL character", path))
    return text


def digest_of(content: bytes) -> bytes:
    """Digest by which a replay is told from a reused id."""
    return blake2b(content, digest_size=16).digest()


def read_drafts(events: Columns[event_pb2.Event]) -> list[Draft]:
    """Offered events. Raises Refused when one is malformed. Fields that are output only are
    ignored.

    The payload stays the message's own: whoever reads a draft leaves its message as it is.
    """
    if any(events["merged_count"]) or any(events["actor_count"]):
        for event in events.messages:
            event.ClearField("merged_count")
            event.ClearField("actor_count")
    bodies = [event.SerializeToString(deterministic=True) for event in events.messages]
    columns = zip(  # in the order of Draft's fields
        events["user_id"],
        events["event_id"],
        events["event_type"],
        map(digest_of, bodies),
        bodies,
        _times(events, "create_time"),
        _times(events, "expire_time"),
        map(tuple, events["item_ids"]),
        events["payload"],
        _times(events, "deliver_time"),
        events["aggregation_key"],
        map(tuple, events["actor_ids"]),
        events["source"],
        events["campaign_id"],
        events["source_score"],
        strict=True,
    )
    return list(map(Draft._make, columns))


def _times(
    events: Columns[event_pb2.Event], path: Literal["create_time", "expire_time", "deliver_time"]
) -> list[datetime | None]:
    there = [event.HasField(path) for event in events.messages]
    if not any(there):
        return [None] * len(there)
    return [
        read_time(moment, path) if given else None
        for moment, given in zip(events[path], there, strict=True)
    ]


def write_event(event: Event) -> event_pb2.Event:
    """Proto form of an event."""
    return event_pb2.Event(
        user_id=event.user_id,
        event_id=event.event_id,
        event_type=event.event_type,
        item_ids=event.item_ids,
        payload=event.payload,
        create_time=write_time(event.create_time),
        expire_time=write_time(event.expire_time),
        deliver_time=None if event.deliver_time is None else write_time(event.deliver_time),
        aggregation_key=event.aggregation_key,
        actor_ids=event.actor_ids,
        source=event.source,
        campaign_id=event.campaign_id,
        source_score=event.source_score,
        merged_count=event.merged_count,
        actor_count=event.actor_count,
    )


def encode_event(event: Event) -> bytes:
    """Stored form of an event; its sketch of actors is stored beside."""
    return write_event(event).SerializeToString(deterministic=True)


def encode_admitted(draft: Draft, event: Event) -> bytes:
    """`encode_event` of an event as it was admitted from a draft, without taking it to pieces.

    What serialised messages say one after the other, their concatenation says: the defaults are
    appended to the draft's own form.
    """
    body = draft.body
    if not body or draft.deliver_time is not event.deliver_time:
        return encode_event(event)
    return body + _defaults(
        None if draft.create_time else event.create_time,
        None if draft.expire_time else event.expire_time,
        "" if draft.source else event.source,
        event.actor_count if draft.actor_ids else 0,
    )


def encode_part(**fields: Any) -> bytes:
    """Some fields of an event in its stored form; parts of all its fields, one after the other, are
    the form of the whole."""
    return event_pb2.Event(**fields).SerializeToString(deterministic=True)


def encode_scores(scores: npt.NDArray[np.float64]) -> list[bytes]:
    """`encode_part(source_score=…)` of each."""
    tag, values = encode_part(source_score=1.0)[:-8], scores.astype("<f8").tobytes()
    return [tag + values[begin : begin + 8] for begin in range(0, len(values), 8)]


@lru_cache(maxsize=256)
def _defaults(
    create_time: datetime | None, expire_time: datetime | None, source: str, actor_count: int
) -> bytes:
    return encode_part(
        create_time=None if create_time is None else write_time(create_time),
        expire_time=None if expire_time is None else write_time(expire_time),
        source=source,
        merged_count=1,
        actor_count=actor_count,
    )


def decode_event(body: bytes, actor_sketch: bytes = b"") -> Event:
    """An event from its stored form, with its stored sketch of actors."""
    event = event_pb2.Event.FromString(body)
    deliver = event.deliver_time.ToDatetime(UTC) if event.HasField("deliver_time") else None
    return Event(
        user_id=event.user_id,
        event_id=event.event_id,
        event_type=event.event_type,
        create_time=event.create_time.ToDatetime(UTC),
        expire_time=event.expire_time.ToDatetime(UTC),
        item_ids=tuple(event.item_ids),
        payload=dict(event.payload),
        deliver_time=deliver,
        aggregation_key=event.aggregation_key,
        actor_ids=tuple(event.actor_ids),
        source=event.source,
        campaign_id=event.campaign_id,
        source_score=event.source_score,
        merged_count=event.merged_count,
        actor_sketch=unpack(actor_sketch),
    )


def read_rules(event_type: event_pb2.EventType) -> TypeRules:
    """What the rules need of an event type."""
    merged = event_type.HasField("aggregation")
    return TypeRules(
        name=event_type.name,
        route=Route(event_type.route),
        time_to_live=event_type.time_to_live.ToTimedelta()
        if event_type.HasField("time_to_live")
        else DEFAULT_TIME_TO_LIVE,
        window=event_type.aggregation.window.ToTimedelta() if merged else None,
        digest=_read_digest(event_type.aggregation),
        repeat_window=event_type.repeat_window.ToTimedelta()
        if event_type.HasField("repeat_window")
        else None,
    )


def _read_digest(rules: event_pb2.Aggregation) -> DigestRules | None:
    timed, limited = rules.HasField("digest_hour"), rules.HasField("maximum_wait")
    if not timed and not limited:
        return None
    return DigestRules(
        hour=rules.digest_hour if timed else None,
        maximum_wait=rules.maximum_wait.ToTimedelta() if limited else None,
        minimum_count=rules.minimum_count,
    )


def user_time_zone(body: bytes) -> ZoneInfo:
    """The zone named by a stored user's attribute `time_zone`; UTC when it is missing or none."""
    attributes = event_pb2.User.FromString(body).attributes
    return zone_of(attributes["time_zone"].string_value if "time_zone" in attributes else "")


def stored_event_type(body: bytes, version: int) -> event_pb2.EventType:
    """An event type from its stored form."""
    event_type = event_pb2.EventType.FromString(body)
    event_type.version = version
    return event_type


def stored_item(body: bytes, create_time: datetime, deleted: bool, version: int) -> event_pb2.Item:
    """An item from its stored form."""
    item = event_pb2.Item.FromString(body)
    item.create_time.CopyFrom(write_time(create_time))
    item.deleted = deleted
    item.content_version = version
    return item


def item_title(body: bytes) -> str:
    """The title of a stored item."""
    return event_pb2.Item.FromString(body).title


def attribute_types(
    attributes: Mapping[str, attribute_pb2.AttributeValue],
) -> dict[str, AttributeType]:
    """Type by attribute. Raises Refused for a time or a span of time that is none, and for a name
    with a NUL character."""
    types = {}
    for name, value in attributes.items():
        kind = types[require_plain(name, "attributes")] = value_type(value)
        if kind is AttributeType.TIMESTAMP:
            read_time(value.time_value, f"{attribute_path(name)}.time_value")
        elif kind is AttributeType.DURATION:
            _check_duration(value.duration_value, f"{attribute_path(name)}.duration_value")
    return types


def attribute_path(name: str) -> str:
    """Where an attribute of a user or an item is."""
    return f'attributes["{name}"]'


def write_as(message: attribute_pb2.AttributeValue, kind: AttributeType) -> bool:
    """Make a value one of another type; False where that is not exact."""
    value = read_value(message)
    found = None if value is None else converted(value, kind)
    if found is None:
        return False
    if isinstance(found.raw, float):
        message.number_value = found.raw
    elif isinstance(found.raw, int):
        message.int_value = found.raw
    return True


def _check_duration(span: Duration, path: str) -> None:
    try:
        span.ToTimedelta()
    except (ValueError, OverflowError):
        message = f"{path} is not a span of at most 10,000 years"
        raise Refused(Refusal("INVALID_FIELD", message, path)) from None


def pool_event(
    body: bytes,
    accept_time: datetime,
    end: int | None,
    end_time: datetime | None,
    reason: str,
    merged_into: str,
    ready_time: datetime | None,
) -> pool_pb2.PoolEvent:
    """An event with its end, from its stored columns."""
    return pool_pb2.PoolEvent(
        event=event_pb2.Event.FromString(body),
        accept_time=write_time(accept_time),
        end=notification_pb2.EventEnd.ValueType(end or 0),
        end_time=None if end_time is None else write_time(end_time),
        end_reason=reason,
        merged_into=merged_into,
        ready_time=None if ready_time is None else write_time(ready_time),
    )
