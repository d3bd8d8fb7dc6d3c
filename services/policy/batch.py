"""What is decided on: slots with their users and events, laid out as columns over all options.

An option is one (event, channel). All rules and utilities work on the columns of a whole batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from services.policy.channel_bits import CHANNELS, EMAIL, IN_APP, PUSH
from services.policy.experiments import Membership
from services.policy.preferences import QuietHours
from services.policy.stop_switches import StopSwitches

READY_PREFIX = "event:"

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class EventType:
    """A registered kind of event, as far as deciding needs it."""

    name: str
    channels: tuple[int, ...]
    """Allowed channels, preferred first."""
    topic: str
    critical: bool = False
    in_app_fallback: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A candidate. `expire_time` in seconds since the epoch, infinite for none."""

    event_id: str
    event_type: EventType
    item_ids: tuple[str, ...] = ()
    campaign_id: str = ""
    expire_time: float = float("inf")


@dataclass(frozen=True, slots=True)
class Send:
    """A send that counts against caps."""

    time: datetime
    channel: int
    delivery_id: str


@dataclass(slots=True)
class Fatigue:
    """What protects a user, and what the day has revealed of the user's arm. Changes as slots are
    decided."""

    sends: list[Send] = field(default_factory=list)
    """Within the cap window, oldest first."""
    arm_day: date | None = None
    arm_likelihoods: tuple[float, ...] = ()
    """Of the day's decisions under each arm of `arms.ARMS`, up to a common factor."""


@dataclass(slots=True)
class User:
    """A recipient at the moment of deciding."""

    user_id: str
    time_zone: str
    locale: str
    segment: str
    membership: Membership
    opt_ins: int
    """Bits of channels: 1 push, 2 e-mail, 4 in-app."""
    reachable: int
    muted_channels: int = 0
    muted_topics: frozenset[str] = frozenset()
    unsubscribed_topics: frozenset[str] = frozenset()
    quiet_hours: QuietHours | None = None
    snooze_until: datetime | None = None
    slot_hours: tuple[int, ...] = ()
    fatigue: Fatigue = field(default_factory=Fatigue)
    fatigue_changed: bool = False
    """It has to be stored."""
    decided_events: set[str] = field(default_factory=set)
    """Of the events in question, those that were decided for good before."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One user's slot, or one ready event."""

    user_id: str
    slot_id: str
    slot_time: datetime
    events: tuple[Event, ...]
    scores: NDArray[np.float32] | None = None
    """Probabilities [events, heads]; None for a ready event."""
    rank_id: str = ""
    model_version: str = ""

    @property
    def ready(self) -> bool:
        """A single event past the ranker."""
        return self.slot_id.startswith(READY_PREFIX)


@dataclass(frozen=True, slots=True)
class Caps:
    """Most non-critical sends within 24 hours, and the least seconds between two of them."""

    per_day: int = 3
    per_channel: Mapping[int, int] = field(default_factory=lambda: {PUSH: 2, EMAIL: 1, IN_APP: 3})
    gap_seconds: float = 3 * 3600.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What holds for every slot of a batch."""

    now: datetime
    switches: StopSwitches
    caps: Caps
    quiet_hours: QuietHours
    paused_retry_seconds: float = 900.0
    """When a ready event that a stop switch holds back is tried again."""


class Batch:
    """Slots of different users, and the columns over their events and options."""

    def __init__(
        self, slots: Sequence[Slot], users: Mapping[str, User], surroundings: Surroundings
    ) -> None:
        self.slots = slots
        self.users = [users[slot.user_id] for slot in slots]
        self.around = surroundings
        self.events = [event for slot in slots for event in slot.events]
        sizes = np.fromiter((len(slot.events) for slot in slots), np.int32, len(slots))
        self.event_slot: Ints = np.repeat(np.arange(len(slots), dtype=np.int32), sizes)
        self.event_starts = np.concatenate(([0], np.cumsum(sizes)))
        names = {event.event_type.name: event.event_type for event in self.events}
        self.types = list(names.values())
        index = {name: position for position, name in enumerate(names)}
        self.event_type: Ints = np.fromiter(
            (index[event.event_type.name] for event in self.events), np.int32, len(self.events)
        )
        allowed = np.array([[c in kind.channels for c in CHANNELS] for kind in self.types])
        event, column = np.nonzero(allowed[self.event_type])
        self.event: Ints = event.astype(np.int32)
        """Event of each option."""
        self.column: Ints = column.astype(np.int32)
        """Channel of each option, less 1."""
        self.slot: Ints = self.event_slot[self.event]
        """Slot of each option."""
        critical = np.array([kind.critical for kind in self.types], dtype=bool)
        self.critical: NDArray[np.bool_] = critical[self.event_type][self.event]
        self.option_starts = np.searchsorted(self.slot, np.arange(len(slots) + 1))

    @property
    def size(self) -> int:
        """How many options there are, no send not counted."""
        return len(self.event)

    def options_of(self, slot: int) -> slice:
        """The options of one slot: they lie together, in the order of its events."""
        return slice(int(self.option_starts[slot]), int(self.option_starts[slot + 1]))
