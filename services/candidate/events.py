"""Events as candidate's rules see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from hashlib import blake2b
from types import MappingProxyType
from typing import NamedTuple

from services.candidate.digests import DigestRules
from services.candidate.sketches import Sketch, distinct_count, sketch_of, union

ID_LIMIT = 128
MOST_ACTORS = 32
ACTOR_SKETCH = 256
"""Hashes of actors kept: the count is exact below, and has a standard error of 6 % from there."""

NOTHING: Mapping[str, str] = MappingProxyType({})


class Route(IntEnum):
    """How fast an event goes through the system; numbers as in the protos and tables."""

    IMMEDIATE = 1
    SCHEDULED = 2
    RANKED = 3


class End(IntEnum):
    """The recorded ends of an event; numbers as in the protos and tables."""

    SENT = 1
    MERGED = 2
    EXPIRED = 3
    EVICTED = 4
    SUPPRESSED = 5
    CANCELLED = 6


class Event(NamedTuple):
    """An event with its defaults filled in.

    Events, offered or accepted, are tuples: a batch makes thousands, and a frozen dataclass takes
    several times as long to make.
    """

    user_id: str
    event_id: str
    event_type: str
    create_time: datetime
    expire_time: datetime
    item_ids: tuple[str, ...] = ()
    payload: Mapping[str, str] = NOTHING
    deliver_time: datetime | None = None
    aggregation_key: str = ""
    actor_ids: tuple[str, ...] = ()
    source: str = "publish"
    campaign_id: str = ""
    source_score: float = 0.0
    merged_count: int = 1
    actor_sketch: Sketch = ()
    """Of all actors, when they are more than `actor_ids` hold; else empty."""

    @property
    def actor_count(self) -> int:
        """How many different actors caused what stands in it."""
        if self.actor_sketch:
            return distinct_count(self.actor_sketch, ACTOR_SKETCH)
        return len(set(self.actor_ids))


def actor_sketch_of(*events: Event) -> Sketch:
    """The sketch of all actors of some events."""
    united: Sketch = ()
    for event in events:
        known = event.actor_sketch or sketch_of(event.actor_ids, ACTOR_SKETCH)
        united = union(united, known, ACTOR_SKETCH)
    return united


class Draft(NamedTuple):
    """An event as it was offered; times that were left out are None."""

    user_id: str
    event_id: str
    event_type: str
    digest: bytes
    """Of the whole offered content: a replay has the same one."""
    body: bytes = b""
    """Serialised as offered; empty where there is no such form."""
    create_time: datetime | None = None
    expire_time: datetime | None = None
    item_ids: tuple[str, ...] = ()
    payload: Mapping[str, str] = NOTHING
    deliver_time: datetime | None = None
    aggregation_key: str = ""
    actor_ids: tuple[str, ...] = ()
    source: str = ""
    campaign_id: str = ""
    source_score: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """The natural key: user and event."""
        return self.user_id, self.event_id


@dataclass(frozen=True, slots=True)
class TypeRules:
    """What candidate needs to know of an event type."""

    name: str
    route: Route
    time_to_live: timedelta
    window: timedelta | None
    """Within which events of one aggregation key are merged; None: never."""
    digest: DigestRules | None = None
    """When what is merged is ready; None: at once."""
    repeat_window: timedelta | None = None
    """How long an event keeps its repetitions from the same user; None: it doesn't."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one item of a batch is not accepted."""

    reason: str
    message: str
    path: str = ""
    """The field at fault; empty when it is about none."""


def event_id_of(prefix: str, name: str) -> str:
    """`prefix:name`, or with a digest of the name where that would be too long for an event id."""
    plain = f"{prefix}:{name}"
    if len(plain) <= ID_LIMIT:
        return plain
    return f"{prefix}:{blake2b(name.encode(), digest_size=16).hexdigest()}"
