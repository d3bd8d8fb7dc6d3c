"""Timing of contenders side by side on one core: in turns, many rounds, medians, and their ratios.

Each round calls every contender once, in an order drawn anew, so that a machine that other work
slows down slows them all. The 95 % interval of a ratio redraws whole rounds.
"""

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bench.report import Metric

REDRAWS = 2_000
Contenders = Mapping[str, Callable[[int], object]]
"""What to time, by name; called with the number of the round, the warm-up being round 0."""
Seconds = NDArray[np.float64]
"""One per round."""


def use_one_core() -> None:
    """Bind this process, and those that it starts from now on, to one core and one thread."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    threadpool_limits(1)


def interleaved(
    contenders: Contenders, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Seconds]:
    """Seconds of each contender in each round by the clock, after one round that doesn't count."""

    def timed(contender: Callable[[int], object], number: int) -> float:
        start = clock()
        contender(number)
        return clock() - start

    return in_turns({name: partial(timed, each) for name, each in contenders.items()}, rounds)


def in_turns(contenders: Mapping[str, Callable[[int], float]], rounds: int) -> dict[str, Seconds]:
    """The seconds that each contender itself tells in each round, after one that doesn't count."""
    random = np.random.default_rng(1)
    names = list(contenders)
    seconds = {name: np.empty(rounds) for name in names}
    for number in range(rounds + 1):
        for place in random.permutation(len(names)):
            told = contenders[names[place]](number)
            if number:
                seconds[names[place]][number - 1] = told
    return seconds


def ratio(seconds: Seconds, over: Seconds) -> tuple[float, tuple[float, float]]:
    """Ratio of the medians, with its 95 % interval."""
    drawn = np.random.default_rng(1).integers(0, len(seconds), (REDRAWS, len(seconds)))
    ratios = np.median(seconds[drawn], axis=1) / np.median(over[drawn], axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(np.median(seconds) / np.median(over)), (float(low), float(high))


def ratio_metric(
    seconds: Seconds, over: Seconds, goal: float, better: Literal["higher", "lower"] = "lower"
) -> Metric:
    """The ratio of two contenders' times as a metric."""
    value, interval = ratio(seconds, over)
    return Metric(value, "× the time", goal, better, interval)


def milliseconds(seconds: Mapping[str, Seconds]) -> dict[str, float]:
    """Medians, for series."""
    return {name: round(float(np.median(values)) * 1e3, 3) for name, values in seconds.items()}
