"""`python -m bench.volume --json OUT`: does the controller hold the volume, whatever the day?

Replays all users from several first days, in all seasons, with a seed each, and compares each day's
sends with the sum of the targets. The runs were fixed before the first look at them; none was used
while the controller was made.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bench.replay import PACKAGES, VOLUME_TOLERANCE, replayed
from bench.report import BenchReport, Metric
from services.runtime.postgres import PostgresError
from services.runtime.settings import ConfigurationError
from simulation.connection import ReplayError
from simulation.movielens import DatasetError
from simulation.replay import ReplayOptions
from simulation.results import DayResult

RUNS = (
    (datetime(2026, 1, 19, tzinfo=UTC), 11),
    (datetime(2026, 4, 4, tzinfo=UTC), 12),
    (datetime(2026, 6, 10, tzinfo=UTC), 13),
    (datetime(2026, 8, 28, tzinfo=UTC), 14),
    (datetime(2026, 10, 25, tzinfo=UTC), 15),
    (datetime(2026, 12, 31, tzinfo=UTC), 16),
)
DAYS = 3
LEAST_TARGET = 50.0
"""Cells with a smaller target a day are not shown by themselves: chance rules them."""
REDRAWS = 10_000


def report(runs: Sequence[Sequence[DayResult]]) -> BenchReport:
    """Errors of the days, as shares of the targets. The interval redraws whole runs."""
    errors = np.array([[day.volume_error or 0.0 for day in days] for days in runs])
    cells = [
        abs(cell.sent / cell.target - 1.0)
        for days in runs
        for day in days
        for cell in day.volume
        if cell.target is not None and cell.target >= LEAST_TARGET
    ]
    drawn = np.random.default_rng(1).integers(0, len(runs), (REDRAWS, len(runs)))
    low, high = np.quantile(np.abs(errors)[drawn].mean(axis=(1, 2)), (0.025, 0.975))
    unit = "share of target"
    metrics = {
        "volume_error_worst_day": Metric(
            float(np.abs(errors).max()), unit, VOLUME_TOLERANCE, "lower"
        ),
        "volume_error_mean": Metric(
            float(np.abs(errors).mean()), unit, VOLUME_TOLERANCE / 2, "lower", (low, high)
        ),
        "large_cell_error_mean": Metric(float(np.mean(cells)), unit, VOLUME_TOLERANCE, "lower"),
    }
    starts = [f"{start:%Y-%m-%d}, seed {seed}" for start, seed in RUNS]
    return BenchReport(
        "volume", metrics, {"runs": starts, "volume_error": errors.tolist()}, PACKAGES
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 1 when the system or the data can't be used."""
    parser = argparse.ArgumentParser(prog="python -m bench.volume", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    given = parser.parse_args(arguments)
    try:
        runs = [replayed(ReplayOptions(DAYS, seed=seed, start=start)).days for start, seed in RUNS]
    except (ValueError, DatasetError, ReplayError, ConfigurationError, PostgresError) as error:
        print(error, file=sys.stderr)
        return 1
    found = report(runs)
    for name, errors in zip(found.series["runs"], found.series["volume_error"], strict=True):
        print(name, " ".join(f"{error:+.1%}" for error in errors))
    found.print()
    found.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
