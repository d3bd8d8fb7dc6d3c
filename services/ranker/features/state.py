"""What the ranker remembers of one user.

A state is a function of the set of entries that were applied, whatever their order and however
often each came:

- Each sequence keeps the newest 64 steps by (time, key). An entry older than the oldest step of a
  full sequence is left out of it.
- The ledger keeps one row per entry of the last 28 days before the user's newest entry, at most
  2,048 by (hour, key). Counters are counts of its rows per hour, so they are whole numbers and an
  entry counts once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.schema import SEQUENCES, STEPS, WINDOWS_HOURS
from services.ranker.features.vocabulary import (
    Channel,
    Counter,
    EngagementKind,
    StepKind,
    item_key,
    stable_key,
    type_bucket,
)

LEDGER_ROWS = 2048
HORIZON_HOURS = WINDOWS_HOURS[-1]
MAGIC = b"hfs1"

STEP = np.dtype(
    [
        ("time", "<i8"),
        ("key", "<i8"),
        ("item", "<i8"),
        ("delay", "<i4"),
        ("type", "u1"),
        ("channel", "u1"),
        ("kind", "u1"),
    ]
)
LEDGER = np.dtype([("hour", "<i4"), ("key", "<i8"), ("counter", "u1"), ("type", "u1")])
Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision for the user, whether something is sent or not. `time` in seconds."""

    time: int
    decision_id: str
    send: bool


@dataclass(frozen=True, slots=True)
class Send:
    """A delivery handed to its channel."""

    time: int
    delivery_id: str
    channel: Channel
    event_type: str
    item_ids: Sequence[str] = ()
    source_score: float = 0.0
    """Of the event, in [0, 1]; 0: its source gave none."""


@dataclass(frozen=True, slots=True)
class Engagement:
    """What the user did with a notification; `decide_time` is when it was decided."""

    time: int
    engagement_id: str
    kind: EngagementKind
    channel: Channel
    event_type: str
    item_ids: Sequence[str] = ()
    decide_time: int | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """The user had a session, or deleted the app."""

    time: int
    session_id: str
    app_deleted: bool = False


Entry: TypeAlias = Decision | Send | Engagement | Session
"""One entry of the feed about one user."""


def _no_steps() -> Array:
    return np.zeros(0, STEP)


@dataclass(frozen=True, slots=True)
class FeatureState:
    """Immutable; `apply` returns a new one. Sequences are newest first."""

    engagements: Array = field(default_factory=_no_steps)
    """Opens, clicks and sessions: what the user did out of interest."""
    sends: Array = field(default_factory=_no_steps)
    """Deliveries handed to their channel."""
    responses: Array = field(default_factory=_no_steps)
    """How notifications were answered, dismissals and opt-outs included."""
    ledger: Array = field(default_factory=lambda: np.zeros(0, LEDGER))
    """Rows (hour, key, counter, type), ordered by hour and key."""

    def sequence(self, name: str) -> Array:
        """The sequence `engagement`, `send` or `response`."""
        found: Array = getattr(self, f"{name}s")
        return found


def apply(state: FeatureState, entries: Sequence[Entry]) -> FeatureState:
    """The state with these entries added; entries it has seen change nothing."""
    if not entries:
        return state
    steps: dict[str, list[tuple[int, ...]]] = {name: [] for name in SEQUENCES}
    for entry in entries:
        for name, step in _steps(entry):
            steps[name].append(step)
    return FeatureState(
        engagements=_merged(state.engagements, steps["engagement"]),
        sends=_merged(state.sends, steps["send"]),
        responses=_merged(state.responses, steps["response"]),
        ledger=_counted(state.ledger, [_row(entry) for entry in entries]),
    )


def new_entries(before: FeatureState, after: FeatureState, entries: Sequence[Entry]) -> list[Entry]:
    """Of the entries that turned `before` into `after`, those it counted, each once."""
    fresh = set(after.ledger["key"].tolist()) - set(before.ledger["key"].tolist())
    found = {key: entry for entry in entries if (key := _key(entry)) in fresh}
    return list(found.values())


def encode(state: FeatureState) -> bytes:
    """The state as bytes: a mark, the four lengths, then the rows as they are in memory."""
    parts = (state.engagements, state.sends, state.responses, state.ledger)
    lengths = np.array([len(part) for part in parts], dtype="<u2")
    return MAGIC + lengths.tobytes() + b"".join(part.tobytes() for part in parts)


def decode(data: bytes) -> FeatureState:
    """The state that `encode` was given. Raises ValueError for anything else."""
    if data[:4] != MAGIC or len(data) < 12:
        raise ValueError("these bytes are no feature state")
    lengths = np.frombuffer(data, "<u2", 4, 4)
    parts: list[Array] = []
    offset = 12
    for dtype, length in zip((STEP, STEP, STEP, LEDGER), lengths.tolist(), strict=True):
        parts.append(np.frombuffer(data, dtype, length, offset))
        offset += dtype.itemsize * length
    if offset != len(data):
        raise ValueError("a feature state has more bytes than rows")
    return FeatureState(*parts)


def _merged(sequence: Array, added: list[tuple[int, ...]]) -> Array:
    if not added:
        return sequence
    both = np.concatenate([sequence, np.array(added, STEP)])
    _, first = np.unique(both["key"], return_index=True)
    both = both[first]
    order = np.lexsort((both["key"], both["time"]))[::-1]
    newest: Array = both[order[:STEPS]]
    return newest


def _counted(ledger: Array, added: list[tuple[int, int, int, int]]) -> Array:
    both = np.concatenate([ledger, np.array(added, LEDGER)])
    _, first = np.unique(both["key"], return_index=True)
    both = both[first]
    both = both[both["hour"] > both["hour"].max() - HORIZON_HOURS]
    order = np.lexsort((both["key"], both["hour"]))
    newest: Array = both[order[-LEDGER_ROWS:]]
    return newest


def _steps(entry: Entry) -> list[tuple[str, tuple[int, ...]]]:
    """The sequences an entry belongs to, each with its step in the order of STEP."""
    key = _key(entry)
    names: tuple[str, ...]
    match entry:
        case Send():
            kind, names = StepKind.SEND, ("send",)
            about = (_first(entry.item_ids), 0, type_bucket(entry.event_type), entry.channel)
        case Engagement():
            kind, names = StepKind[entry.kind.name], _engagement_sequences(entry.kind)
            delay = 0 if entry.decide_time is None else entry.time - entry.decide_time
            delay = min(max(delay, 0), 2**31 - 1)
            about = (_first(entry.item_ids), delay, type_bucket(entry.event_type), entry.channel)
        case Session(app_deleted=deleted):
            kind = StepKind.APP_DELETE if deleted else StepKind.SESSION
            names = ("response",) if deleted else ("engagement",)
            about = (0, 0, 0, Channel.NONE)
        case Decision():
            return []
    item, delay, event_type, channel = about
    step = (entry.time, key, item, delay, event_type, int(channel), int(kind))
    return [(name, step) for name in names]


def _engagement_sequences(kind: EngagementKind) -> tuple[str, ...]:
    if kind in (EngagementKind.OPEN, EngagementKind.CLICK):
        return ("engagement", "response")
    return ("response",)


def _row(entry: Entry) -> tuple[int, int, int, int]:
    """The ledger's row for an entry."""
    event_type = type_bucket(entry.event_type) if isinstance(entry, Send | Engagement) else 0
    return (entry.time // 3600, _key(entry), int(_counter(entry)), event_type)


def _counter(entry: Entry) -> Counter:
    match entry:
        case Decision(send=send):
            return Counter.SEND_DECISIONS if send else Counter.NO_SEND_DECISIONS
        case Send(channel=channel):
            return Counter(Counter.PUSH_SENDS + _offset(channel))
        case Session(app_deleted=deleted):
            return Counter.APP_DELETES if deleted else Counter.SESSIONS
        case Engagement(kind=EngagementKind.UNSUBSCRIBE):
            return Counter.UNSUBSCRIBES
        case Engagement(kind=EngagementKind.DISABLE):
            return Counter.DISABLES
        case Engagement(kind=EngagementKind.DISMISS, channel=channel):
            return Counter(Counter.PUSH_DISMISSALS + _offset(channel))
        case Engagement(channel=channel):
            return Counter(Counter.PUSH_ENGAGEMENTS + _offset(channel))


def _offset(channel: Channel) -> int:
    if channel is Channel.NONE:
        raise ValueError("a send or an engagement needs a channel")
    return channel - Channel.PUSH


def _key(entry: Entry) -> int:
    match entry:
        case Decision():
            return stable_key("decision", entry.decision_id)
        case Send():
            return stable_key("send", entry.delivery_id)
        case Engagement():
            return stable_key("engagement", entry.engagement_id)
        case Session():
            return stable_key("session", entry.session_id)


def _first(item_ids: Sequence[str]) -> int:
    return item_key(item_ids[0]) if item_ids else 0
