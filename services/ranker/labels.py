"""What became of a decision, as labels: each head by its channel and its window."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.vocabulary import HEADS, Channel, EngagementKind, Head, StepKind
from services.ranker.training.log import MASKED, unlabelled
from services.runtime.hashing import unit_hash

KEPT_USERS = 0.01
"""Share of users whose every decision is logged."""
KEPT_DECISIONS = 0.1
"""Share of the other users' decisions without engagement that is logged."""
_SALT = "training-log"


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
    """One label per head [heads]: 1, 0 or MASKED; see `Head` for channels and windows.

    Masked are heads of other channels, of a delivery that never went out, push heads of a disable
    when push was off, and heads whose window had not closed at `known_until`, even when it has
    happened: otherwise positives would be seen earlier than negatives.

    Engagements belong to the decision whose notification they answer. Sessions and app deletes
    belong to every decision of the user in whose window they fall: one session after two sends
    labels both, and one after a send and a silent decision labels both, too. So the heads predict
    what follows a decision while the policy goes on; no credit is shared out, since a share that
    the last send takes from the one before would make every send look worse the more often
    somebody is written to, and silent decisions, which would get none, look worse than sends.
    What a send adds is the difference between sends and silence drawn at random.
    """
    found: NDArray[np.int8] = unlabelled(1)[0]
    if decided.dropped:
        return found
    happened = _happened(decided)
    for column, head in enumerate(HEADS):
        ends = decided.time + int(head.window.total_seconds())
        if ends <= known_until and _applies(head, decided):
            found[column] = any(kind in head.signs and time < ends for kind, time in happened)
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
    if decided.push_disabled and head.channel is Channel.PUSH and StepKind.DISABLE in head.signs:
        return False
    return head.channel in (Channel.NONE, decided.channel)


def _happened(decided: Decided) -> list[tuple[StepKind, int]]:
    """What followed the decision, with its times."""
    answers = [(StepKind[each.kind.name], each.time) for each in decided.outcomes]
    visits = [
        (StepKind.APP_DELETE if each.app_deleted else StepKind.SESSION, each.time)
        for each in decided.sessions
        if each.time > decided.time
    ]
    return answers + visits
