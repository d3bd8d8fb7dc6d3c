"""Users, slots and policies to decide with, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from services.policy.arms import ArmShares
from services.policy.batch import Caps, Event, EventType, Slot, Surroundings, User
from services.policy.channel_bits import EMAIL, IN_APP, PUSH
from services.policy.choice import Exploration
from services.policy.contexts import SlotRule
from services.policy.controller import Judgement
from services.policy.deciding import Policy, Randomness
from services.policy.experiments import Membership
from services.policy.judging import Cell, Model, Thresholds
from services.policy.preferences import QuietHours
from services.policy.stop_switches import StopSwitches

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
HEADS = (1, 2, 3)
RANKED = EventType("movie", (PUSH, EMAIL), topic="movies")
FALLBACK = EventType("digest", (PUSH, IN_APP), topic="digests", in_app_fallback=True)
READY = EventType("message", (EMAIL, PUSH), topic="friends")
CRITICAL = EventType("code", (PUSH, EMAIL), topic="code", critical=True)
NO_ARMS = ArmShares(0.0, 0.0, 0.0)
NO_EXPLORATION = Exploration(0.0, 0.0)


def user(user_id: str = "ann", **fields: Any) -> User:
    """A user who can be reached everywhere, in UTC."""
    defaults: dict[str, Any] = {
        "time_zone": "UTC",
        "locale": "en",
        "segment": "casual",
        "membership": Membership(0, {}),
        "opt_ins": 7,
        "reachable": 7,
    }
    return User(user_id=user_id, **(defaults | fields))


def events(*names: str, kind: EventType = RANKED, **fields: Any) -> tuple[Event, ...]:
    return tuple(Event(name, kind, (f"item-{name}",), **fields) for name in names)


def slot(
    given: Sequence[Event],
    user_id: str = "ann",
    time: datetime = NOW,
    scores: Sequence[Sequence[float]] | None = None,
) -> Slot:
    """A ranked slot; by default earlier events score higher, and push higher than e-mail."""
    table = scores or [(0.5 / (at + 1), 0.25 / (at + 1), 0.1) for at in range(len(given))]
    return Slot(user_id, f"{time:%Y%m%dT%H%M}", time, tuple(given), np.array(table, np.float32))


def ready(one: Event, user_id: str = "ann", time: datetime = NOW) -> Slot:
    return Slot(user_id, f"event:{one.event_id}", time, (one,))


def policy(
    now: datetime = NOW,
    *,
    threshold: float = 0.0,
    band: float = 0.0,
    shares: ArmShares = NO_ARMS,
    exploration: Exploration = NO_EXPLORATION,
    caps: Caps | None = None,
    salt: str = "salt",
    switches: StopSwitches | None = None,
) -> Policy:
    """One threshold for every cell of the segment `casual`, with a band of ± `band` around it."""
    judgement = Judgement(threshold, threshold - band, threshold + band)
    known = {Cell("default", "casual", channel): judgement for channel in (PUSH, EMAIL, IN_APP)}
    return Policy(
        around=Surroundings(
            now=now,
            switches=switches or StopSwitches(),
            caps=caps or Caps(),
            quiet_hours=QuietHours(22 * 60, 8 * 60),
        ),
        model=Model(HEADS, HEADS),
        thresholds=Thresholds(known, {}, Judgement(0.0, 0.0, -1.0)),
        randomness=Randomness(salt, shares, exploration),
        slots=SlotRule(),
    )


def later(one: Policy, hours: float) -> Policy:
    """The same policy, hours later."""
    return replace(one, around=replace(one.around, now=one.around.now + timedelta(hours=hours)))
