"""What became of a decision, as labels: each head by its channel and its window."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.vocabulary import HEADS, Channel, EngagementKind, Head
from services.ranker.training.log import HEAD_CHANNELS, LABEL_WINDOWS, MASKED, unlabelled
from services.runtime.hashing import unit_hash

KEPT_USERS = 0.01
"""Share of users whose every decision is logged."""
KEPT_DECISIONS = 0.1
"""Share of the other users' decisions without engagement that is logged."""
_SALT = "training-log"

_LABELLING_KINDS = {
    Head.PUSH_OPEN: (EngagementKind.OPEN, EngagementKind.CLICK),
    Head.EMAIL_CLICK: (EngagementKind.CLICK,),
    Head.INAPP_CLICK: (EngagementKind.CLICK,),
    Head.PUSH_DISABLE: (EngagementKind.DISABLE,),
    Head.EMAIL_UNSUBSCRIBE: (EngagementKind.UNSUBSCRIBE, EngagementKind.DISABLE),
}
_SESSION_HEADS = (Head.SESSION_1H, Head.SESSION_1D, Head.SESSION_3D)


@dataclass(frozen=True, slots=True)
class Outcome:
    """An engagement with a decision's notification. Times in seconds."""

    kind: EngagementKind
    time: int


@dataclass(frozen=True, slots=True)
class SessionTime:
    """A session of the user, or the app's removal."""

    time: int
    app_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision and all that is known to have followed it."""

    decision_id: str
    user_id: str
    time: int
    channel: Channel
    """NONE: nothing was sent."""
    push_disabled: bool = False
    """Push was off at the decision, so it could not be turned off."""
    dropped: bool = False
    """The delivery never went out."""
    outcomes: Sequence[Outcome] = ()
    sessions: Sequence[SessionTime] = ()


def labels(decided: Decided, known_until: int) -> NDArray[np.int8]:
    """One label per head [heads]: 1, 0 or MASKED.

    Masked are heads of other channels, of a delivery that never went out, push_disable when push
    was off, and heads whose window had not closed at `known_until`, even when it has happened:
    otherwise positives would be seen earlier than negatives.
    """
    found: NDArray[np.int8] = unlabelled(1)[0]
    if decided.dropped:
        return found
    for column, head in enumerate(HEADS):
        ends = decided.time + int(LABEL_WINDOWS[head].total_seconds())
        if ends <= known_until and _applies(head, decided):
            found[column] = _happened(head, decided, ends)
    return found


def log_probability(decided: Decided) -> float:
    """Probability with which the decision is exported: 1 with any engagement or for 1 % of users,
    else .1."""
    everything = unit_hash(_SALT, "user", decided.user_id) < KEPT_USERS
    return 1.0 if decided.outcomes or everything else KEPT_DECISIONS


def is_exported(decided: Decided) -> bool:
    """Whether the draw, by stable hash, keeps the decision."""
    return unit_hash(_SALT, "decision", decided.decision_id) < log_probability(decided)


def has_label(found: NDArray[np.int8]) -> bool:
    """Whether anything can be learned from these labels."""
    return bool((found != MASKED).any())


def _applies(head: Head, decided: Decided) -> bool:
    if head is Head.PUSH_DISABLE and decided.push_disabled:
        return False
    return head not in HEAD_CHANNELS or HEAD_CHANNELS[head] is decided.channel


def _happened(head: Head, decided: Decided, ends: int) -> bool:
    if head in _LABELLING_KINDS:
        kinds = _LABELLING_KINDS[head]
        return any(each.kind in kinds and each.time < ends for each in decided.outcomes)
    deletes = head not in _SESSION_HEADS
    return any(
        each.app_deleted is deletes and decided.time < each.time < ends for each in decided.sessions
    )
