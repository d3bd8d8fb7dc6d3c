"""Decide."""

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import grpc
import numpy as np
from heliograph.policy.v1alpha1 import decide_pb2
from heliograph.type.v1alpha1 import event_pb2, status_pb2
from numpy.typing import NDArray

from services.policy.batch import READY_PREFIX, Event, EventType, Slot
from services.policy.decider import Decider
from services.policy.handlers.items import in_order, refused
from services.policy.timestamps import moment
from services.runtime.clock import Clock
from services.runtime.errors import FieldError, InvalidArgument
from services.runtime.validation import ItemRules, rejection, violations

OLDEST_SLOT = timedelta(days=30)
NEWEST_SLOT = timedelta(days=1)
"""How far a slot's time may be from now: its day says where its decision is kept."""
LAST_SECOND = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
REMEMBERED_EVENTS = 200_000
ROUNDING = 1e-6
"""Slack of probabilities that come as 32-bit floats."""

Context = grpc.aio.ServicerContext[Any, Any]
EventKey = tuple[str, str, str]


class ValidEvents:
    """Remembers which events were found valid: they wait in the pool for days and come again with
    every slot, and checking one costs more than deciding about it."""

    def __init__(self, size: int = REMEMBERED_EVENTS) -> None:
        self._size = size
        self._known: dict[bytes, None] = {}

    def violations(self, event: event_pb2.Event) -> list[FieldError]:
        """The first rule that the event breaks; that it breaks none is remembered by content."""
        digest = blake2b(event.SerializeToString(), digest_size=16).digest()
        if digest in self._known:
            return []
        found = violations(event, only_first=True)
        if not found:
            self._known[digest] = None
            if len(self._known) > self._size:
                del self._known[next(iter(self._known))]
        return found


class DecideHandlers:
    """See the protos for what each call means."""

    decider: Decider
    clock: Clock
    valid_events: ValidEvents

    async def Decide(
        self, request: decide_pb2.DecideRequest, context: Context
    ) -> decide_pb2.DecideResponse:
        reader = _Reader(request, self.clock, self.valid_events)
        slots, rejections = reader.slots()
        found = await self.decider.decide(
            list(slots.values()),
            list(request.heads),
            list(request.trained_heads or request.heads),
            reader.event_message,
            dry_run=request.dry_run,
        )
        for index, message in zip(slots, found, strict=True):
            if message is None:
                text = "no recipient with this user id; call UpsertRecipients first"
                rejections.append(refused(index, "UNKNOWN_USER", text))
        return decide_pb2.DecideResponse(
            decisions=[message for message in found if message is not None],
            rejections=in_order(rejections),
        )


class _Reader:
    """Reads the slots of one request."""

    def __init__(
        self, request: decide_pb2.DecideRequest, clock: Clock, valid_events: ValidEvents
    ) -> None:
        self._request = request
        self._now = clock.now()
        self._valid_events = valid_events
        self._rules = ItemRules()
        self._messages: dict[EventKey, event_pb2.Event] = {}
        self._types: dict[str, EventType] = {}
        self._bad_types: dict[str, list[FieldError]] = {}
        for message in request.event_types:
            if fields := violations(message, only_first=True):
                self._bad_types[message.name] = fields
            else:
                self._types[message.name] = _event_type(message)

    def slots(self) -> tuple[dict[int, Slot], list[status_pb2.Rejection]]:
        """The good slots by index, and the rejections of the others."""
        found: dict[int, Slot] = {}
        rejections: list[status_pb2.Rejection] = []
        seen: set[tuple[str, str]] = set()
        for index, message in enumerate(self._request.slots):
            try:
                slot = self._slot(message)
                if (slot.user_id, slot.slot_id) in seen:
                    raise _wrong("DUPLICATE_SLOT", "slot_id", "the user's slot is named before")
            except InvalidArgument as error:
                rejections.append(rejection(index, error.reason, error.message, error.fields))
                continue
            seen.add((slot.user_id, slot.slot_id))
            found[index] = slot
        return found, rejections

    def event_message(self, slot: Slot, event: Event) -> bytes:
        """The message of an event that is sent."""
        message = self._messages[slot.user_id, slot.slot_id, event.event_id]
        return message.SerializeToString()

    def _slot(self, message: decide_pb2.Slot) -> Slot:
        if fields := self._rules.violations(message):
            raise InvalidArgument(f"{fields[0].path}: {fields[0].description}", fields=fields)
        slot_time = moment(message.slot_time, "slot_time")
        if not self._now - OLDEST_SLOT <= slot_time <= self._now + NEWEST_SLOT:
            problem = "must lie within the last 30 days and not more than a day ahead"
            raise _wrong("SLOT_TIME_OUT_OF_RANGE", "slot_time", problem)
        ready = message.slot_id.startswith(READY_PREFIX)
        events = self._events(message, ready)
        if ready and message.slot_id != READY_PREFIX + events[0].event_id:
            raise _wrong("INVALID_FIELD", "slot_id", "must be event: and the event's id")
        return Slot(
            user_id=message.user_id,
            slot_id=message.slot_id,
            slot_time=slot_time,
            events=events,
            scores=None if ready else self._scores(message),
            rank_id=message.rank_id,
            model_version=message.model_version,
        )

    def _events(self, message: decide_pb2.Slot, ready: bool) -> tuple[Event, ...]:
        if ready and len(message.events) != 1:
            raise _wrong("INVALID_FIELD", "events", "a ready slot has exactly one event")
        found: list[Event] = []
        seen: set[str] = set()
        for position, event in enumerate(message.events):
            path = f"events[{position}]"
            if fields := self._valid_events.violations(event):
                raise _wrong("INVALID_FIELD", f"{path}.{fields[0].path}", fields[0].description)
            kind = self._type(event, path)
            if event.event_id in seen:
                raise _wrong("DUPLICATE_EVENT", f"{path}.event_id", "is named before in the slot")
            if event.user_id != message.user_id:
                raise _wrong("WRONG_USER", f"{path}.user_id", "must be the slot's user")
            if kind.critical and not ready:
                problem = "a critical type comes in a ready slot only"
                raise _wrong("WRONG_ROUTE", f"{path}.event_type", problem)
            seen.add(event.event_id)
            found.append(_event(event, kind, path))
            self._messages[message.user_id, message.slot_id, event.event_id] = event
        return tuple(found)

    def _type(self, event: event_pb2.Event, path: str) -> EventType:
        kind = self._types.get(event.event_type)
        if kind is not None:
            return kind
        if fields := self._bad_types.get(event.event_type):
            problem = f"the event type is not valid: {fields[0].path}: {fields[0].description}"
            raise _wrong("INVALID_EVENT_TYPE", f"{path}.event_type", problem)
        problem = f"{event.event_type!r} is not among the request's event_types"
        raise _wrong("UNKNOWN_EVENT_TYPE", f"{path}.event_type", problem)

    def _scores(self, message: decide_pb2.Slot) -> NDArray[np.float32]:
        columns = len(self._request.heads)
        scores = np.asarray(message.scores, dtype=np.float32)
        if columns == 0 or len(scores) != len(message.events) * columns:
            problem = f"must have {len(message.events)} events × {columns} heads, not {len(scores)}"
            raise _wrong("WRONG_SHAPE", "scores", problem)
        if not np.isfinite(scores).all():
            at = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise _wrong("NON_FINITE_SCORE", f"scores[{at}]", "must be finite")
        if scores.min() < -ROUNDING or scores.max() > 1 + ROUNDING:
            at = int(np.flatnonzero((scores < -ROUNDING) | (scores > 1 + ROUNDING))[0])
            raise _wrong("SCORE_OUT_OF_RANGE", f"scores[{at}]", "must be a probability")
        return scores.reshape(-1, columns)


def _event(message: event_pb2.Event, kind: EventType, path: str) -> Event:
    expires = float("inf")
    if message.HasField("expire_time"):
        expires = message.expire_time.seconds + message.expire_time.nanos / 1e9
        if not 0 <= expires < LAST_SECOND:
            raise _wrong("INVALID_FIELD", f"{path}.expire_time", "must lie in the years 1970–9998")
    return Event(
        event_id=message.event_id,
        event_type=kind,
        item_ids=tuple(message.item_ids),
        campaign_id=message.campaign_id,
        expire_time=expires,
    )


def _event_type(message: event_pb2.EventType) -> EventType:
    return EventType(
        name=message.name,
        channels=tuple(message.channels),
        topic=message.topic or message.name,
        critical=message.critical,
        in_app_fallback=message.in_app_fallback,
    )


def _wrong(reason: str, path: str, problem: str) -> InvalidArgument:
    return InvalidArgument(f"{path}: {problem}", reason=reason, fields=[FieldError(path, problem)])
