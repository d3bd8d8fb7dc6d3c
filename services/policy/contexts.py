"""User contexts: what the other services need to know about a recipient."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.policy import hour_profile
from services.policy.experiments import Experiments, Membership
from services.policy.hour_profile import Profile
from services.policy.segments import ActiveDays, Segment, segment_of
from services.policy.slots import next_slot_times


@dataclass(frozen=True, slots=True)
class RecipientState:
    """What is stored about a recipient, as far as contexts need it."""

    user_id: str
    time_zone: str
    locale: str
    create_time: datetime
    active: ActiveDays
    hour_counts: bytes
    slot_hours: tuple[int, ...]
    """Local hours of the user's own; empty: the deployment's default."""


@dataclass(frozen=True, slots=True)
class UserContext:
    """One user as the other services see them."""

    user_id: str
    segment: Segment
    time_zone: str
    locale: str
    membership: Membership
    hours: Profile
    next_slots: tuple[datetime, ...]


@dataclass(frozen=True, slots=True)
class SlotRule:
    """Slots of recipients without hours of their own, and how many ahead are answered."""

    default_hours: tuple[int, ...] = (9, 13, 19)
    count: int = 3

    def next_slots(self, now: datetime, time_zone: str, own: Sequence[int]) -> list[datetime]:
        """The next slots of a recipient strictly after `now`, in UTC."""
        return next_slot_times(now, time_zone, own or self.default_hours, self.count)


def context_of(
    state: RecipientState, now: datetime, experiments: Experiments, slots: SlotRule
) -> UserContext:
    """The context at `now` (aware UTC)."""
    today = now.astimezone(UTC).date()
    create_day = state.create_time.astimezone(UTC).date()
    counts = hour_profile.read_counts(state.hour_counts)
    return UserContext(
        user_id=state.user_id,
        segment=segment_of(create_day, state.active, today),
        time_zone=state.time_zone,
        locale=state.locale,
        membership=experiments.membership(state.user_id),
        hours=hour_profile.profile(counts),
        next_slots=tuple(slots.next_slots(now, state.time_zone, state.slot_hours)),
    )
