"""The controller of one cell: a PID step in quantile space that holds the day's volume on target.

What is moved is the share p of offers that is sent; the threshold is the (1 − p) quantile of their
utility: of a batch's own offers when these are many, else of what recent ones let expect
(`recent_offers`). So neither the scale of the scores nor their shape matters. With e the relative
error, the share of the target by which volume lags behind the pacing curve,

    ln p = min(0, ln(T / E)) + I + r (f(Kp e) + Kd Δe)        I ← I + r Ki e Δc

    f(x) = ln(1 + x) for x > 0, else x

where T is the target, E the offers expected a day (a feed-forward: it follows a new target, and
users who come into the segment or leave it), r the learning rate and Δc the share of the day's
curve since the last step. With f, a lag is made up within 1 / Kp of the day and no faster. Time is
counted along the curve, so hours without slots neither integrate nor wind up. I is what the
expectation gets wrong, and starts at 0.

Where a large share b of the day's offers comes at once (one time zone, few slots), nothing can be
corrected within it: the loop is a sampled one with period b, and the gains are lowered to
Kp b ≤ 0.7 and Ki ≤ Kp² / 4, which keeps its poles real or well damped.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import numpy as np

from services.policy.batch import Floats

CLOSED = 1e300
"""Threshold of a cell whose target is 0: no utility reaches it."""
OPEN = -1e300
"""Lower end of the thresholds' range."""
MOST_PER_BURST = 0.7
FAR_BELOW = 2.0
"""How far ln p may be asked below what is expected before the integral takes no more of it: a day
that began with too many is no sign that the expectation is wrong."""
LEAST_OFFERS = 30
LEAST_SENDS = 2.0
"""A batch with so many offers, and so many sends to expect of them, has a threshold of its own."""
PRIOR_SENDS = 5.0
"""The integral takes errors for T / (T + PRIOR_SENDS) of what they are: in a cell with few sends
they are mostly chance."""
UNKNOWN_SHARE = 0.1
"""T / E of a cell of which no offers can be expected from what is known."""


@dataclass(frozen=True, slots=True)
class Gains:
    """How strongly the controller acts; the defaults need no tuning, for all is relative."""

    learning_rate: float = 1.0
    proportional: float = 8.0
    integral: float = 4.0
    derivative: float = 1.0
    largest_step: float = 1.5
    """Most that ln p moves in one step."""
    smallest_share: float = 1e-4
    """p never falls below."""


@dataclass(frozen=True, slots=True)
class State:
    """What is kept between steps."""

    quantile: float
    """1 − p."""
    integral: float
    error: float
    target: float
    """Sends a day that the state was made for."""
    step_time: datetime | None = None
    step_count: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """What the controller sees at one tick."""

    now: datetime
    paced: float
    """The pacing curve at `now`, in [0, 1]."""
    progress: float
    """How much of it lies since the last step of the same day."""
    burst: float
    """The largest share of it that comes at once."""
    volume: int
    """Handed to channels today plus in flight."""
    offer_count: int
    """Offers since the last step."""
    expected_offers: float
    """Offers expected a day, E; 0: unknown."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step, as recorded: the state after it, and whether or why it held."""

    state: State
    outcome: str


def start(target: float, expected_offers: float, gains: Gains) -> State:
    """The first state: sends the share of offers that the target implies."""
    return retarget(State(1.0, 0.0, 0.0, 0.0), target, expected_offers, gains)


def retarget(state: State, target: float, expected_offers: float, gains: Gains) -> State:
    """The state under a new target; what was learned stays."""
    if target == 0:
        return replace(state, quantile=1.0, target=0.0)
    level = _bounded(_expected(target, expected_offers) + state.integral, gains)
    return replace(state, quantile=-math.expm1(level), target=target)


def step(state: State, reading: Reading, gains: Gains) -> Step:
    """One step. What can't be computed moves nothing."""
    if state.step_time is not None and reading.now <= state.step_time:
        return Step(state, "CLOCK_BACK")
    numbers = (reading.paced, reading.progress, reading.burst, reading.expected_offers)
    if not all(map(math.isfinite, numbers)) or reading.volume < 0:
        return Step(state, "NOT_FINITE")
    counted = replace(state, step_time=reading.now, step_count=state.step_count + 1)
    if state.target == 0:
        return Step(counted, "CLOSED")
    return _moved(counted, reading, gains)


def _moved(state: State, reading: Reading, gains: Gains) -> Step:
    error = max(-1.0, min(1.0, reading.paced - reading.volume / state.target))
    proportional = min(gains.proportional, MOST_PER_BURST / max(reading.burst, 1e-6))
    evidence = state.target / (state.target + PRIOR_SENDS)
    integral_gain = min(gains.integral, proportional**2 / 4) * evidence
    derivative = gains.derivative * proportional / max(gains.proportional, 1e-6)
    lag = proportional * error
    change = (math.log1p(lag) if lag > 0 else lag) + derivative * (error - state.error)
    base = _expected(state.target, reading.expected_offers)
    outcome = "MOVED"
    integral = state.integral
    if reading.offer_count > 0:
        grown = integral + gains.learning_rate * integral_gain * error * reading.progress
        wanted = base + grown + gains.learning_rate * change
        # Anti-windup: at a limit, the integral only moves away from it.
        within = max(base - FAR_BELOW, min(0.0, wanted))
        if (wanted - within) * error <= 0:
            integral = grown
    else:
        outcome = "NO_OFFERS"
    before = math.log(max(1.0 - state.quantile, gains.smallest_share))
    wanted = base + integral + gains.learning_rate * change
    level = min(max(wanted, before - gains.largest_step), before + gains.largest_step)
    level = _bounded(level, gains)
    moved = replace(state, quantile=-math.expm1(level), integral=integral, error=error)
    return Step(moved, outcome)


def _expected(target: float, offers: float) -> float:
    """ln p by what is known beforehand; more than all can't be sent."""
    return min(0.0, math.log(target / offers if offers > 0 else UNKNOWN_SHARE))


def _bounded(level: float, gains: Gains) -> float:
    return max(math.log(gains.smallest_share), min(0.0, level))


@dataclass(frozen=True, slots=True)
class Judgement:
    """Utility from which a cell sends, and the band around it in which a coin is tossed."""

    threshold: float
    band_low: float
    band_high: float


def judgement(
    state: State, utilities: Floats, *, band: float, floor: float | None
) -> Judgement | None:
    """The threshold at the state's quantile of the offers expected next, with the band of ± `band`
    of p around it. None when there are no offers to read it off.

    Never below `floor`. A target of 0 closes the cell.
    """
    if state.target == 0:
        return Judgement(CLOSED, CLOSED, CLOSED)
    known = np.sort(utilities[np.isfinite(utilities)])
    return _banded(partial(_threshold, known), state, band, floor) if len(known) else None


def batch_judgement(
    state: State, utilities: Floats, *, band: float, floor: float | None, alone: bool
) -> Judgement | None:
    """The threshold that sends the state's share of these very offers, of one batch: no guess can
    be nearer, when they are many. None when they are few, unless they are all that is known
    (`alone`)."""
    known = np.sort(utilities[np.isfinite(utilities)])
    sends = (1.0 - state.quantile) * len(known)
    if len(known) >= LEAST_OFFERS and sends >= LEAST_SENDS:
        return _banded(partial(_nearest, known), state, band, floor)
    return judgement(state, known, band=band, floor=floor) if alone else None


def _banded(
    threshold: Callable[[float], float], state: State, band: float, floor: float | None
) -> Judgement:
    lowest = OPEN if floor is None else floor
    share = 1.0 - state.quantile
    high, middle, low = (
        max(threshold(part), lowest)
        for part in (share * (1.0 - band), share, min(1.0, share * (1.0 + band)))
    )
    return Judgement(middle, low, high)


def _nearest(known: Floats, share: float) -> float:
    """The utility that the nearest whole number to this share of sorted offers reaches (Hazen's
    plotting position)."""
    return float(np.quantile(known, 1.0 - share, method="hazen"))


def _threshold(known: Floats, share: float) -> float:
    """The utility that this share of offers reaches; `known` is sorted.

    Of n offers the k-th largest is reached by k / (n + 1) of all (Weibull's plotting position).
    Beyond the largest, the tail goes on as an exponential one with the mean excess of the upper
    half: few offers must not keep a cell open.
    """
    count = len(known)
    expected = share * (count + 1)
    if expected >= 1:
        return float(np.quantile(known, 1.0 - share, method="weibull"))
    upper = known[count // 2 :]
    excess = float(upper.mean() - upper[0])
    beyond = float(known[-1]) + excess * math.log(1.0 / expected)
    return max(beyond, float(np.nextafter(known[-1], np.inf)))
