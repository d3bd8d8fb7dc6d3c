"""The pacing curve: which share of a day's volume should have been sent by now.

A day is a UTC day in bins of five minutes. The curve follows opportunity: the share of the day's
slots that lie before a moment, known from the recipients' hours and time zones, mixed with what the
days before offered to the cell and, as long as that is little, to all cells of its channel. Without
any of these it is flat.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np

from services.policy.batch import Floats
from services.policy.slots import next_slot_times

BINS = 288
BIN = timedelta(minutes=5)
SLOTS_WEIGHT = 0.25
"""Weight of the recipients' slots in the mix, in days of offers."""
CHANNEL_WEIGHT = 30.0
"""How many offers of its own a cell needs in a day to count as much as its channel's others."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Share of the day's volume in each bin; sums to 1."""

    shares: Floats

    def at(self, moment: datetime) -> float:
        """Share that lies before `moment` (aware) on its UTC day, in [0, 1]; linear in a bin."""
        start = datetime.combine(moment.astimezone(UTC).date(), time(), UTC)
        position = (moment - start) / BIN
        whole = min(int(position), BINS - 1)
        share = float(self.shares[:whole].sum() + self.shares[whole] * (position - whole))
        return min(share, 1.0)

    @property
    def burst(self) -> float:
        """The largest share that comes at once: in two bins side by side."""
        return float((self.shares + np.roll(self.shares, 1)).max())


@dataclass(frozen=True, slots=True)
class SlotHours:
    """How many recipients have these local slot hours in this time zone."""

    time_zone: str
    hours: tuple[int, ...]
    recipients: float


def flat() -> Curve:
    """The same volume in every hour."""
    return Curve(np.full(BINS, 1.0 / BINS))


def slots_by_bin(groups: Iterable[SlotHours], day: date) -> Floats:
    """How many slots lie in each bin of a UTC day, [BINS]."""
    counts = np.zeros(BINS)
    before = datetime.combine(day, time(), UTC) - timedelta(microseconds=1)
    for group in groups:
        for moment in next_slot_times(before, group.time_zone, group.hours, len(group.hours) + 1):
            if moment.date() == day:
                counts[bin_of(moment)] += group.recipients
    return counts


def curve(slots: Floats, offers: Sequence[Floats]) -> Curve:
    """The curve from a day's slots and the offers of days before, each [BINS], any of them zero.

    Each day of offers counts the same; the slots count SLOTS_WEIGHT of a day, so that they rule
    until a day was seen and fade after.
    """
    parts = [(SLOTS_WEIGHT, slots), *((1.0, offered) for offered in offers)]
    shares = sum(
        (weight * counts / counts.sum() for weight, counts in parts if counts.sum() > 0),
        start=np.zeros(BINS),
    )
    total = float(shares.sum())
    return Curve(shares / total) if total > 0 else flat()


def with_channel(own: Floats, channel: Floats) -> Floats:
    """A day's offers of a cell, [BINS], filled up with CHANNEL_WEIGHT offers that come as those of
    all its channel did."""
    total = float(channel.sum())
    return own + CHANNEL_WEIGHT * channel / total if total > 0 else own


def bin_of(moment: datetime) -> int:
    """The bin of a moment (aware) on its UTC day."""
    at = moment.astimezone(UTC)
    return (at.hour * 60 + at.minute) // 5
