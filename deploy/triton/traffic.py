"""Chooses buckets by the sizes of runs that rankers have counted."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from services.ranker.backend import MOST_EVENTS, MOST_USERS
from services.ranker.features.schema import STEPS
from services.ranker.run_sizes import NAME
from services.ranker.triton_model.buckets import tokens

Size = tuple[int, int, int]
"""Users, events, steps."""
LARGEST: Size = (MOST_USERS, MOST_EVENTS, STEPS)
"""The bucket that takes every run: there has to be one."""
STARTS = 100


class TrafficError(ValueError):
    """A file that tells of no runs; says which and why."""


def read_traffic(paths: Sequence[Path]) -> dict[Size, float]:
    """Runs by size, from what `/metrics` of some rankers answered. Raises TrafficError."""
    traffic: dict[Size, float] = {}
    for path in paths:
        try:
            found = {each.name: each for each in text_string_to_metric_families(path.read_text())}
        except (ValueError, OSError) as error:
            raise TrafficError(f"{path}: not what /metrics answers ({error})") from error
        if NAME not in found:
            raise TrafficError(f"{path}: no {NAME}_total in it")
        for sample in found[NAME].samples:
            if sample.name == f"{NAME}_total":
                at = sample.labels
                size = int(at["users"]), int(at["events"]), int(at["steps"])
                traffic[size] = traffic.get(size, 0.0) + sample.value
    return traffic


def choose(traffic: Mapping[Size, float], most: int) -> list[Size]:
    """At most so many buckets, the largest among them, of which padded runs are the least work.

    Begins with random ones, makes them better bucket by bucket as long as that is
    possible, and keeps the best of STARTS ends: the least work of all is not certain, but near.
    """
    runs, weights = list(traffic), np.array(list(traffic.values()))
    offered = [LARGEST, *product(*(sorted(set(axis)) for axis in zip(*runs, strict=True)))]
    work = _costs(offered, runs) * weights
    random = np.random.default_rng(0)
    ends = []
    for _ in range(STARTS):
        begin = random.integers(len(offered), size=most - 1)
        ends.append(_improved([0, *begin.tolist()], work))
    chosen = min(ends, key=lambda rows: _total(rows, work))
    return sorted({offered[row] for row in chosen}, key=lambda size: tokens(*size))


def _improved(chosen: Sequence[int], work: NDArray[np.float64]) -> list[int]:
    """Rows of buckets with each but the first replaced by what is best beside the others, until
    none is better; `work` [buckets, runs]."""
    chosen, before = list(chosen), np.inf
    while (now := _total(chosen, work)) < before:
        before = now
        for place in range(1, len(chosen)):
            beside = work[chosen[:place] + chosen[place + 1 :]].min(0)
            chosen[place] = int(np.argmin(np.minimum(work, beside).sum(1)))
    return chosen


def padded_work(sizes: Sequence[Size], traffic: Mapping[Size, float]) -> float:
    """The work of the padded runs over that of the runs as they came."""
    runs, weights = list(traffic), np.array(list(traffic.values()))
    bare = np.array([tokens(*run) for run in runs])
    return float((weights * _costs(sizes, runs).min(0)).sum() / (weights * bare).sum())


def _costs(sizes: Sequence[Size], runs: Sequence[Size]) -> NDArray[np.float64]:
    """Work of each run in each bucket [buckets, runs]; infinite where it doesn't fit."""
    buckets, wanted = np.array(sizes), np.array(runs)
    fits = (buckets[:, None] >= wanted).all(-1)
    work = np.array([tokens(*size) for size in sizes], np.float64)
    return np.where(fits, work[:, None], np.inf)


def _total(chosen: Sequence[int], work: NDArray[np.float64]) -> float:
    return float(work[list(chosen)].min(0).sum())
