"""Names, numbers and stable hashes that features are made of. Enum values equal the protos'."""

from datetime import datetime, timedelta
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Self

_DAY = timedelta(days=1)


class Channel(IntEnum):
    """What a notification is perceived through; NONE where nothing was sent."""

    NONE = 0
    PUSH = 1
    EMAIL = 2
    IN_APP = 3


class EngagementKind(IntEnum):
    """What a user did with a notification."""

    OPEN = 1
    CLICK = 2
    DISMISS = 3
    UNSUBSCRIBE = 4
    DISABLE = 5


class StepKind(IntEnum):
    """What a step of a sequence is; PADDING marks the end."""

    PADDING = 0
    SEND = 1
    SESSION = 2
    OPEN = 3
    CLICK = 4
    DISMISS = 5
    UNSUBSCRIBE = 6
    DISABLE = 7
    APP_DELETE = 8


class Head(IntEnum):
    """An output of the model: the probability of one thing a user may do.

    The table of heads. Each is one line: its number in the protos; the channel whose sends alone
    can label it, NONE where every decision does, silent ones too; how long after the decision it
    counts; the steps of which one makes it happen; and the share in (0, 1] of its negatives that
    training keeps. Logs and models know heads by their place: a new one makes a new version of the
    features.
    """

    PUSH_OPEN = 1, Channel.PUSH, _DAY, (StepKind.OPEN, StepKind.CLICK), 1.0
    EMAIL_CLICK = 2, Channel.EMAIL, _DAY, (StepKind.CLICK,), 1.0
    INAPP_CLICK = 3, Channel.IN_APP, _DAY, (StepKind.CLICK,), 1.0
    PUSH_DISABLE = 4, Channel.PUSH, _DAY, (StepKind.DISABLE,), 1.0
    EMAIL_UNSUBSCRIBE = 5, Channel.EMAIL, _DAY, (StepKind.UNSUBSCRIBE, StepKind.DISABLE), 1.0
    APP_DELETE = 6, Channel.NONE, 3 * _DAY, (StepKind.APP_DELETE,), 1.0
    SESSION_1H = 7, Channel.NONE, _DAY / 24, (StepKind.SESSION,), 1.0
    SESSION_1D = 8, Channel.NONE, _DAY, (StepKind.SESSION,), 1.0
    SESSION_3D = 9, Channel.NONE, 3 * _DAY, (StepKind.SESSION,), 1.0

    _value_: int
    channel: Channel
    window: timedelta
    signs: tuple[StepKind, ...]
    negatives_kept: float

    def __new__(
        cls,
        number: int,
        channel: Channel,
        window: timedelta,
        signs: tuple[StepKind, ...],
        negatives_kept: float,
    ) -> Self:
        head = int.__new__(cls, number)
        head._value_ = number
        head.channel, head.window, head.signs = channel, window, signs
        head.negatives_kept = negatives_kept
        return head


HEADS = tuple(Head)
"""The columns of labels and scores, in order."""


class Counter(IntEnum):
    """What is counted per user and hour; the order is that of the feature `counts`."""

    PUSH_SENDS = 0
    EMAIL_SENDS = 1
    IN_APP_SENDS = 2
    PUSH_ENGAGEMENTS = 3
    EMAIL_ENGAGEMENTS = 4
    IN_APP_ENGAGEMENTS = 5
    PUSH_DISMISSALS = 6
    EMAIL_DISMISSALS = 7
    IN_APP_DISMISSALS = 8
    UNSUBSCRIBES = 9
    DISABLES = 10
    SESSIONS = 11
    APP_DELETES = 12
    SEND_DECISIONS = 13
    NO_SEND_DECISIONS = 14


SEGMENTS = ("new", "core", "casual", "marginal", "dormant", "resurrected")
SEGMENT_BUCKETS = 16
LOCALE_BUCKETS = 32
TYPE_BUCKETS = 32
SOURCE_BUCKETS = 16


def seconds(moment: datetime) -> int:
    """Whole seconds since 1970 of an aware time; parts of a second are cut off."""
    return int(moment.timestamp() // 1)


def stable_key(*parts: str) -> int:
    """63-bit key of texts, the same on every machine (BLAKE2b, length-prefixed parts)."""
    digest = blake2b(digest_size=8)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(4, "little"))
        digest.update(data)
    return int.from_bytes(digest.digest(), "little") >> 1


@lru_cache(maxsize=65536)
def bucket(kind: str, text: str, size: int) -> int:
    """Row of an embedding table with `size` rows: 1 … size − 1 by hash, 0 for the empty text."""
    return 1 + stable_key(kind, text) % (size - 1) if text else 0


@lru_cache(maxsize=65536)
def item_key(item_id: str) -> int:
    """Key by which features know an item. Never 0, which stands for no item."""
    return stable_key("item", item_id) or 1


def segment_bucket(segment: str) -> int:
    """The named segments have rows of their own, others share the rest. Empty: new."""
    name = segment or "new"
    if name in SEGMENTS:
        return 1 + SEGMENTS.index(name)
    first = 1 + len(SEGMENTS)
    return first + stable_key("segment", name) % (SEGMENT_BUCKETS - first)


def locale_bucket(locale: str) -> int:
    """By the language of a BCP 47 tag. Empty: en."""
    language = (locale or "en").replace("_", "-").split("-")[0].lower()
    return bucket("locale", language, LOCALE_BUCKETS)


def type_bucket(event_type: str) -> int:
    """Row of an event type."""
    return bucket("event_type", event_type, TYPE_BUCKETS)


def source_bucket(source: str) -> int:
    """Row of a source."""
    return bucket("source", source, SOURCE_BUCKETS)
