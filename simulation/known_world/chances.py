"""The probabilities of one slot, from which both the play and the truth are made.

What changes from slot to slot is small: which of the last slots sent (a mask of six bits, the
newest lowest), whether push and e-mail are on, and whether the app is still there.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.known_world.offers import Offers, taste_of
from simulation.known_world.parameters import (
    ANSWER_HOURS,
    REMEMBERED_SLOTS,
    SLOTS_PER_DAY,
    Parameters,
)
from simulation.known_world.people import People
from simulation.world import DAY_S

MASKS = 1 << REMEMBERED_SLOTS
ANSWER_S = ANSWER_HOURS * 3600 - 1
"""Latest answer, in seconds after the send; the earliest comes after one second."""

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Chances:
    """For U users, n slots, K offers and three channels."""

    parameters: Parameters
    opens: Array
    """Probability [U, n, K, 3] that a rested user opens."""
    off: Array
    """Probability [U, n, K, 3] that a rested user who doesn't open turns the channel off."""
    dismiss: Array
    """Probability [U, n, K] that who doesn't open dismisses."""
    organic: Array
    """Expected sessions without sends from each slot to the next [U, n]."""
    organic_1h: Array
    """The same, of the slot's first hour."""
    organic_3h: Array
    """The same, of its first three hours, in which a send acts."""
    open_factor: Array
    """What fatigue leaves of an open and of a nudge [U, slots of a day, masks before the slot]."""
    off_factor: Array
    """By how much fatigue raises `off` [U, slots of a day, masks before the slot]."""
    keep: Array
    """Probability [U, slots of a day, masks after the slot] that the app stays to the next slot."""

    @property
    def slots(self) -> int:
        """How many slots each user has, n."""
        return int(self.opens.shape[1])


def chances(people: People, offers: Offers, parameters: Parameters) -> Chances:
    """All probabilities of a block of users."""
    before, after = _fatigue(people.slots, parameters.fatigue_h)
    off_factor = np.exp(parameters.off_fatigue * before)
    taste = taste_of(people.taste, offers.item)
    off = _off(taste, parameters)
    if off.max() * off_factor.max() > 1:
        raise ValueError("these parameters make a probability of turning off above 1")
    organic, organic_1h, organic_3h = _organic(people)
    return Chances(
        parameters=parameters,
        opens=_opens(people, offers, taste, parameters),
        off=off,
        dismiss=_dismiss(taste, parameters),
        organic=organic,
        organic_1h=organic_1h,
        organic_3h=organic_3h,
        open_factor=np.exp(-parameters.open_fatigue * before),
        off_factor=off_factor,
        keep=_keep(people, after, parameters),
    )


def next_mask(mask: Ints, sent: NDArray[np.bool_] | int) -> Ints:
    """The mask after a slot."""
    moved: Ints = (mask << 1 | sent) & (MASKS - 1)
    return moved


def channel_shares(push: NDArray[np.bool_], email: NDArray[np.bool_]) -> Array:
    """Probability [..., 3] of each channel when something is sent: even among those that are on."""
    on = np.stack((push, email, np.ones_like(push)), axis=-1).astype(np.float64)
    shares: Array = on / on.sum(axis=-1, keepdims=True)
    return shares


def answered_within(seconds: int, parameters: Parameters) -> float:
    """Share of the answers that come less than so many seconds after the send.

    An answer comes after ceil(x) seconds; x is exponential, cut at ANSWER_S.
    """
    mean = parameters.answer_mean_min * 60
    last = min(seconds - 1, ANSWER_S)
    return float(np.expm1(-last / mean) / np.expm1(-ANSWER_S / mean))


def answer_delays(
    count: int, parameters: Parameters, random: np.random.Generator
) -> NDArray[np.int64]:
    """Seconds from sends to their answers, drawn as `answered_within` says."""
    mean = parameters.answer_mean_min * 60
    x = -mean * np.log1p(random.random(count) * np.expm1(-ANSWER_S / mean))
    seconds: Ints = np.clip(np.ceil(x), 1, ANSWER_S).astype(np.int64)
    return seconds


def _opens(people: People, offers: Offers, taste: Array, parameters: Parameters) -> Array:
    rhythm = np.log(np.clip(people.relative, *parameters.rhythm_limits))
    stale = offers.age_s / (parameters.oldest_offer_h * 3600)
    logit = (
        parameters.taste_logit * taste
        + parameters.rhythm_logit * rhythm[:, :, None]
        - parameters.stale_logit * stale
    )
    channel = np.array(parameters.open_logit) + people.openness
    found: Array = 1 / (1 + np.exp(-(logit[..., None] + channel[:, None, None, :])))
    return found


def _off(taste: Array, parameters: Parameters) -> Array:
    """In-app can't be turned off."""
    rates = np.array((parameters.push_disable, parameters.email_unsubscribe, 0.0))
    found: Array = np.exp(-parameters.dislike * taste)[..., None] * rates
    return found


def _dismiss(taste: Array, parameters: Parameters) -> Array:
    return np.minimum(parameters.dismiss_share * np.exp(-parameters.dislike * taste), 0.9)


def _organic(people: People) -> tuple[Array, Array, Array]:
    total = np.cumsum(np.pad(people.hourly, ((0, 0), (1, 0))), axis=1)
    hour = people.slots // 3600 - people.first_hour

    def between(first: Ints, last: Ints) -> Array:
        expected: Array = np.take_along_axis(total, last, 1) - np.take_along_axis(total, first, 1)
        return expected

    now, then = hour[:, :-1], hour[:, 1:]
    return between(now, then), between(now, now + 1), between(now, now + ANSWER_HOURS)


def _fatigue(slots: Ints, hours: float) -> tuple[Array, Array]:
    """Fatigue [U, slots of a day, masks] just before a slot and just after it.

    Slots are at the same hours each day, so that gaps depend on the slot of the day alone.
    """
    bits = (np.arange(MASKS)[:, None] >> np.arange(REMEMBERED_SLOTS)) & 1
    before, after = [], []
    for slot in range(REMEMBERED_SLOTS, REMEMBERED_SLOTS + SLOTS_PER_DAY):
        now = slots[:, slot, None]
        earlier = slots[:, slot - REMEMBERED_SLOTS : slot + 1][:, ::-1]
        worth = np.exp(-(now - earlier) / 3600 / hours)
        before.append(worth[:, 1:] @ bits.T)
        after.append(worth[:, :-1] @ bits.T)
    return np.stack(before, axis=1), np.stack(after, axis=1)


def _keep(people: People, after: Array, parameters: Parameters) -> Array:
    days = np.diff(people.slots[:, : SLOTS_PER_DAY + 1], axis=1) / DAY_S
    hazard = people.delete_per_day[:, None] * days
    kept: Array = np.exp(-hazard[..., None] * np.exp(parameters.delete_fatigue * after))
    return kept
