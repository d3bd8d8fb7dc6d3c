"""What a replay found, as plain values that print and write as JSON."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import sqrt
from typing import Any

import numpy as np

from simulation.baselines import Baselines

Z_95 = 1.959964
ROUNDS = 2000


@dataclass(frozen=True, slots=True)
class SendRecord:
    """One notification handed to its channel, and what came of it. Users and items by position."""

    day: int
    user: int
    item: int
    channel: str
    arm: str
    earlier: int
    """How many the user got before in this replay."""
    opened: bool
    dismissed: bool
    disabled: bool


@dataclass(frozen=True, slots=True)
class SourceCount:
    """What one source's candidates became on one day."""

    proposed: int
    accepted: int
    dropped: int


@dataclass(frozen=True, slots=True)
class CellVolume:
    """Volume of a segment and channel at the end of a day. `target` None: none was set."""

    segment: str
    channel: str
    sent: int
    target: float | None
    threshold: float


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OpenRates:
    """Opens of the sends, and of the baselines on the same users and slots."""

    sent: int
    opened: int
    dismissed: int
    disabled: int
    rate: Rate
    random_item: float
    """Exact expectation for an unseen item drawn at random."""
    most_popular: float
    """Share for the most popular unseen item, the next one for each further send."""


@dataclass(frozen=True, slots=True)
class Lift:
    """How many times the open rate of a baseline, with the 95 % bootstrap interval by user."""

    baseline: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class DayResult:
    """One replayed day."""

    day: str
    sources: dict[str, SourceCount]
    decided: int
    sent: dict[str, dict[str, int]]
    """Sends by channel and arm."""
    decided_by_arm: dict[str, int]
    volume: list[CellVolume]
    opens: OpenRates
    opens_by_channel: dict[str, OpenRates]
    stages: dict[str, float]
    """Wall time in seconds by stage; `process` includes those that the pacer reports."""
    wall_s: float

    @property
    def volume_error(self) -> float | None:
        """(sent − target) / target over the cells with a target; None without any."""
        target = sum(cell.target or 0.0 for cell in self.volume)
        sent = sum(cell.sent for cell in self.volume if cell.target is not None)
        return (sent - target) / target if target else None


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a user found it in the inbox."""

    user_id: str
    channel: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """A whole replay."""

    options: dict[str, Any]
    users: int
    items: int
    interactions: int
    setup: dict[str, float]
    """Wall time in seconds of telling the services what is known."""
    days: list[DayResult]
    opens: OpenRates
    lifts: list[Lift]
    messages: list[Message] = field(default_factory=list)
    sends: list[SendRecord] = field(default_factory=list)
    """Every send; not part of the JSON."""

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`."""
        figures = asdict(replace(self, sends=[]))
        del figures["sends"]
        return figures


def wilson(successes: int, trials: int) -> Rate:
    """A share with its 95 % score interval (Wilson, 1927). Without trials: 0, from 0 to 1."""
    if not trials:
        return Rate(0.0, 0.0, 1.0)
    share, weight = successes / trials, Z_95**2 / trials
    middle = (share + weight / 2) / (1 + weight)
    half = Z_95 * sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
    return Rate(share, max(0.0, middle - half), min(1.0, middle + half))


def open_rates(sends: Sequence[SendRecord], baselines: Baselines) -> OpenRates:
    """Open rates of some sends beside those of the baselines for the same sends."""
    opened = sum(send.opened for send in sends)
    popular = baselines.popular_opens([(send.user, send.earlier) for send in sends])
    return OpenRates(
        sent=len(sends),
        opened=opened,
        dismissed=sum(send.dismissed for send in sends),
        disabled=sum(send.disabled for send in sends),
        rate=wilson(opened, len(sends)),
        random_item=baselines.random_rate([send.user for send in sends]),
        most_popular=sum(popular) / len(popular) if popular else 0.0,
    )


def lifts(sends: Sequence[SendRecord], baselines: Baselines, seed: int) -> list[Lift]:
    """Ratio of the open rate to each baseline's. The interval redraws users with all their sends.

    A user's sends aren't independent, so the interval is by user. Empty without opens to compare.
    """
    if not sends:
        return []
    users, row = np.unique([send.user for send in sends], return_inverse=True)
    popular = baselines.popular_opens([(send.user, send.earlier) for send in sends])
    columns = {
        "system": np.array([send.opened for send in sends], np.float64),
        "random_item": baselines.random[[send.user for send in sends]],
        "most_popular": np.array(popular, np.float64),
    }
    by_user = {name: np.bincount(row, values, len(users)) for name, values in columns.items()}
    drawn = np.random.default_rng(seed).multinomial(
        len(users), np.full(len(users), 1 / len(users)), size=ROUNDS
    )
    found = []
    for name in ("random_item", "most_popular"):
        total = by_user[name].sum()
        if not total:
            continue
        ratios = (drawn @ by_user["system"]) / np.maximum(drawn @ by_user[name], 1e-9)
        low, high = np.quantile(ratios, (0.025, 0.975))
        value = float(by_user["system"].sum() / total)
        found.append(Lift(name, value, float(low), float(high)))
    return found


def sent_by_channel_and_arm(sends: Sequence[SendRecord]) -> dict[str, dict[str, int]]:
    """How many were sent by channel, then arm."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for send in sends:
        counts[send.channel][send.arm] += 1
    return {channel: dict(sorted(arms.items())) for channel, arms in sorted(counts.items())}
