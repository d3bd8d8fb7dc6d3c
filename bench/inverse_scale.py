"""Time and memory of exact search by the number of users, each size in a process of its own.

The sizes can't be timed in turns, so the time is that of the processor, which other work on the
machine lengthens less.
"""

import ctypes
import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.interleaved import interleaved, milliseconds, use_one_core
from bench.inverse_data import BOOSTER, Users, make_items, make_users
from bench.inverse_search import BATCH, COUNT, judges
from bench.report import Metric
from bench.service_process import held_bytes, most_held_bytes
from services.candidate.retrieval import Float32, top, top_of_each

GOAL = 1.1
"""Greatest exponent that counts as linear."""


def measured(users: int, dimensions: int, rounds: int) -> dict[str, Any]:
    """Processor milliseconds of the queries; the bytes by which the process was greatest during
    them, less what it was before the data; and the bytes of the data themselves. Linux only."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measure, users, dimensions, rounds).result()


def scale_metrics(
    sizes: Sequence[int], dimensions: int, rounds: int
) -> tuple[dict[str, Metric], list[dict[str, Any]]]:
    """Exponents of time and memory, fitted over the sizes, and what was measured at each."""
    runs = [measured(size, dimensions, rounds) for size in sizes]
    lists = {name: [run["milliseconds"][name] for run in runs] for name in runs[0]["milliseconds"]}
    metrics = {f"{name}_exponent": _exponent(sizes, values) for name, values in lists.items()}
    metrics["memory_exponent"] = _exponent(sizes, [run["bytes"] for run in runs])
    return metrics, runs


def _exponent(sizes: Sequence[int], values: Sequence[float]) -> Metric:
    """Slope of the logarithms by least squares, with Student's 95 % interval."""
    fit = stats.linregress(np.log(sizes), np.log(values))
    reach = float(stats.t.ppf(0.975, len(sizes) - 2) * fit.stderr)
    slope = float(fit.slope)
    return Metric(slope, "exponent", GOAL, "lower", (slope - reach, slope + reach))


def _measure(count: int, dimensions: int, rounds: int) -> dict[str, Any]:
    use_one_core()
    items = make_items(BATCH, dimensions)
    _queries(make_users(70_000, dimensions), items, 1)  # what code and libraries take themselves
    gc.collect()
    _trim()
    before = held_bytes(os.getpid())
    users = make_users(count, dimensions)
    _trim()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    found = _queries(users, items, rounds)
    return {
        "users": count,
        "milliseconds": found,
        "bytes": most_held_bytes(os.getpid()) - before,
        "data_bytes": users.nbytes,
    }


def _queries(users: Users, items: NDArray[np.float32], rounds: int) -> dict[str, float]:
    table, judge = Float32(users.vectors), judges(users, BOOSTER)

    def judged(number: int) -> object:
        return top(table, items[number % BATCH], COUNT, judge=judge())

    single = interleaved(
        {
            "top": lambda number: top(table, items[number % BATCH], COUNT),
            "top_filtered_boosted": judged,
        },
        rounds,
        time.process_time,
    )
    batch = {"batch": lambda _: top_of_each(table, items, COUNT)}
    several = max(1, rounds // 5)
    return milliseconds(single | interleaved(batch, several, time.process_time))


def _trim() -> None:
    """Give freed memory back to the system, so that what is left is in use."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).malloc_trim(0)
