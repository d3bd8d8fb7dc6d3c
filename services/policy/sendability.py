"""Who can be sent to now, by the rules of a decision about an event of a type that any channel may
carry and that has no topic.

Of a million users there are only some hundred whom these rules can tell apart: each kind is judged
once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from services.policy.batch import Batch, Event, EventType, Fatigue, Slot, Surroundings, User
from services.policy.channel_bits import CHANNELS
from services.policy.experiments import Experiments, Membership
from services.policy.preferences import QuietHours
from services.policy.rules import apply_rules
from services.policy.rules.caps_and_gaps import caps_of, recent, remaining
from services.policy.rules.removal import KEPT

MOST_SENDS = 255

_ANYTHING = Event("any", EventType("any", CHANNELS, topic=""))


@dataclass(frozen=True, slots=True)
class Alike:
    """Users whom no rule tells apart but by their experiments."""

    user_ids: str
    """One a line."""
    time_zone: str
    opt_ins: int
    reachable: int
    muted_channels: int
    quiet_hours: QuietHours | None
    snooze_until: datetime | None
    """Past or ahead for all of them."""
    fatigue: Fatigue
    """As many sends in each channel, within the gap or not, as each of them has."""


@dataclass(frozen=True, eq=False, slots=True)
class Sendability:
    """Columns over users."""

    user_ids: Sequence[str]
    channels: NDArray[np.uint8]
    """Bits of the channels that are open now."""
    remaining: NDArray[np.uint8]
    """Sends left today, at most 255."""
    caps: NDArray[np.uint8]
    """Sends a day at most, at most 255."""

    def parts(self, size: int) -> "Iterator[Sendability]":
        """The same, so many users at a time."""
        for start in range(0, len(self.user_ids), size):
            here = slice(start, start + size)
            yield Sendability(
                self.user_ids[here], self.channels[here], self.remaining[here], self.caps[here]
            )


def sendability(
    groups: Sequence[Alike], experiments: Experiments, around: Surroundings
) -> Sendability:
    """What holds for each user of the groups, which are users in any order."""
    limiting = experiments.limiting()
    parts = [part for group in groups for part in _by_experiments(group, limiting)]
    users = [_user(group, membership) for group, membership, _ in parts]
    sizes = [len(names) for _, _, names in parts]
    caps = [caps_of(user.membership, around.caps) for user in users]
    left = [
        remaining(cap, recent(user.fatigue.sends, around.now))
        for user, cap in zip(users, caps, strict=True)
    ]
    return Sendability(
        user_ids=list(chain.from_iterable(names for _, _, names in parts)),
        channels=np.repeat(_open_channels(users, around), sizes),
        remaining=np.repeat(_bytes(left), sizes),
        caps=np.repeat(_bytes([cap.per_day for cap in caps]), sizes),
    )


def _by_experiments(
    group: Alike, experiments: Experiments
) -> list[tuple[Alike, Membership, list[str]]]:
    """Users of a group with the same cap, and those in a holdout, each with the membership of one
    of them."""
    names = group.user_ids.split("\n")
    if experiments.of_everyone is not None:
        return [(group, experiments.of_everyone, names)]
    found: dict[tuple[int | None, bool], tuple[Alike, Membership, list[str]]] = {}
    for name in names:
        membership = experiments.membership(name)
        key = (membership.cap_per_day, membership.holdout)
        if key not in found:
            found[key] = (group, membership, [])
        found[key][2].append(name)
    return list(found.values())


def _user(group: Alike, membership: Membership) -> User:
    return User(
        user_id="",
        time_zone=group.time_zone,
        locale="",
        segment="",
        membership=membership,
        opt_ins=group.opt_ins,
        reachable=group.reachable,
        muted_channels=group.muted_channels,
        quiet_hours=group.quiet_hours,
        snooze_until=group.snooze_until,
        fatigue=group.fatigue,
    )


def _open_channels(users: Sequence[User], around: Surroundings) -> NDArray[np.uint8]:
    """Bits by user."""
    by_number = {str(number): user for number, user in enumerate(users)}
    slots = [Slot(number, number, around.now, (_ANYTHING,)) for number in by_number]
    batch = Batch(slots, by_number, around)
    left = apply_rules(batch).removed_by == KEPT
    bits = np.where(left, 1 << batch.column, 0).reshape(-1, len(CHANNELS)).sum(axis=1)
    bits[[user.membership.holdout for user in users]] = 0
    found: NDArray[np.uint8] = bits.astype(np.uint8)
    return found


def _bytes(numbers: Sequence[int]) -> NDArray[np.uint8]:
    return np.minimum(np.array(numbers, np.int64), MOST_SENDS).astype(np.uint8)
