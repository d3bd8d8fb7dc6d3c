"""`python -m bench.inverse --users 1000000 --dim 64 --json OUT`: exact search over all users.

On one core and in turns with its rivals: the top 50 users of an item, plain, with a filter, and
with a filter and a booster over three attributes (a text, a whole number and a time: see
bench.inverse_data for the data and the expressions), and of 64 items at once. The yardstick is the
bare BLAS product over the same matrix plus `numpy.argpartition`, without any filter. All answers
are compared with brute force in double precision.

`--peers` adds libraries and databases on the same data (bench.inverse_peers says which and with
what settings); without names all of them; those that aren't installed are named and left out. The
approximate ones get fewer users, `--approximate-users`, as their indexes take many minutes to build
on one core; ours are then timed on as many, in the same turns. `--scale` goes from a tenth of the
users to ten times as many and fits the exponents of time and memory.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bench.interleaved import Seconds, interleaved, milliseconds, ratio_metric, use_one_core
from bench.inverse_data import BOOSTER, FILTER, SMOOTH_BOOSTER, make_items, make_users, matching
from bench.inverse_peers import PEERS, compared, packages, print_peers
from bench.inverse_scale import measured, scale_metrics
from bench.inverse_search import BATCH, COUNT, Search, exactness
from bench.report import LEAST_WIDTH, BenchReport, Metric
from services.candidate.retrieval import Float16, Int8, Table, top

BATCH_ROUNDS = 5
PACKAGES = ("numpy", "scipy", "pyarrow", "implicit")
GOALS: Mapping[str, tuple[str, float]] = {
    "top": ("bare", 1.5),
    "top_filtered": ("bare", 2.5),
    "top_filtered_boosted": ("bare", 2.5),
    "top_filtered_smooth_booster": ("bare", 2.5),
    "batch": ("bare_batch", 1.2),
}
"""Yardstick, and the most of its time."""
OVERLAPS = {"float16": 0.99, "int8": 0.95}
MEMORY_GOAL = 1.3


def timed(search: Search, rounds: int) -> dict[str, Seconds]:
    """Seconds per round of all forms and yardsticks."""

    def finding(form: str) -> Callable[[int], object]:
        return lambda number: search.find(form, number % BATCH)

    forms = {form: finding(form) for form in search.judges}
    single = interleaved(forms | {"bare": lambda n: search.bare(n % BATCH)}, rounds)
    batch = {"batch": search.batch, "bare_batch": search.bare_batch}
    return single | interleaved(batch, min(rounds, BATCH_ROUNDS))


def narrow(search: Search, rounds: int) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Overlap of the narrow forms' answers with the exact ones, and their time and size."""
    float16, int8 = Float16.of(search.users.vectors), Int8.of(search.users.vectors)
    tables: dict[str, Table] = {"float16": float16, "int8": int8}
    exact = [set(search.find("top", item).rows.tolist()) for item in range(BATCH)]
    metrics, overlaps = {}, {}
    for name, table in tables.items():
        shares = np.array(
            [
                len(exact[item] & set(top(table, search.items[item], COUNT).rows.tolist())) / COUNT
                for item in range(BATCH)
            ]
        )
        drawn = np.random.default_rng(1).integers(0, BATCH, (2_000, BATCH))
        low, high = np.quantile(shares[drawn].mean(axis=1), (0.025, 0.975))
        interval = (float(low), float(high))
        metrics[f"overlap_{name}"] = Metric(
            float(shares.mean()), f"of the top {COUNT}", OVERLAPS[name], "higher", interval
        )
        overlaps[name] = shares.tolist()

    def finding(name: str) -> Callable[[int], object]:
        return lambda number: top(tables[name], search.items[number % BATCH], COUNT)

    forms = {name: finding(name) for name in tables}
    seconds = interleaved(forms | {"float32": lambda n: search.find("top", n % BATCH)}, rounds)
    sizes = {
        "float32": search.users.vectors.nbytes,
        "float16": float16.vectors.nbytes,
        "int8": int8.vectors.nbytes + int8.steps.nbytes,
    }
    return metrics, {"overlap": overlaps, "milliseconds": milliseconds(seconds), "bytes": sizes}


def report(given: argparse.Namespace) -> BenchReport:
    """All that is asked for."""
    users = make_users(given.users, given.dim)
    search = Search(users, make_items(BATCH, given.dim))
    exact = exactness(search)
    seconds = timed(search, given.rounds)
    metrics = {
        f"{form}_over_{yardstick}": ratio_metric(seconds[form], seconds[yardstick], goal)
        for form, (yardstick, goal) in GOALS.items()
    }
    metrics["exact"] = Metric(min(exact.values()), "share of answers", 1.0, "higher")
    series: dict[str, Any] = {
        "users": given.users,
        "dimensions": given.dim,
        "filter": FILTER,
        "filter_matches": float(matching(users.columns).mean()),
        "boosters": [BOOSTER, SMOOTH_BOOSTER],
        "exact": exact,
        "milliseconds": milliseconds(seconds),
    }
    own, series["narrow"] = narrow(search, given.rounds)
    metrics |= own
    series["memory"] = measured(given.users, given.dim, given.rounds)
    metrics["memory_over_data"] = Metric(
        series["memory"]["bytes"] / series["memory"]["data_bytes"],
        "× the bytes",
        MEMORY_GOAL,
        "lower",
    )
    if given.peers is not None:
        names, fewer = given.peers or list(PEERS), given.approximate_users
        own, series["peers"] = compared(names, search, fewer, given.rounds)
        metrics |= own
    if given.scale:
        sizes = [int(given.users * 10 ** (step / 2)) for step in range(-2, 3)]
        own, series["scale"] = scale_metrics(sizes, given.dim, given.rounds)
        metrics |= own
    versions = [*PACKAGES, *packages(series.get("peers", {}))]
    return BenchReport("inverse", metrics, series, versions)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.inverse", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), metavar="PEER")
    parser.add_argument("--approximate-users", type=int, default=200_000)
    parser.add_argument("--scale", action="store_true", help="a tenth to ten times the users")
    given = parser.parse_args(arguments)
    use_one_core()
    found = report(given)
    found.print()
    print_peers(found.series.get("peers", {}), Console(width=LEAST_WIDTH))
    found.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
