"""`python -m bench.replay --json OUT`: the replay's figures, on the whole system in five processes.

Starts Postgres and the services on an empty replay database, replays all users, and measures open
rate against the two baselines, volume against target on the last day, and wall time.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.report import BenchReport, Metric
from services.cli.launch import database_server, replay_services
from services.runtime.postgres import PostgresError
from services.runtime.settings import ConfigurationError, RuntimeSettings
from simulation.connection import ReplayError
from simulation.download import load
from simulation.movielens import DatasetError
from simulation.replay import ReplayOptions, run
from simulation.report import NoProgress, RichProgress, print_replay
from simulation.results import ReplayResult

PACKAGES = ("grpcio", "numpy", "onnxruntime", "psycopg", "sqlalchemy")
VOLUME_TOLERANCE = 0.1
SECONDS_PER_DAY = 10.0


def replayed(options: ReplayOptions) -> ReplayResult:
    """Start the system, replay, and stop it again."""
    data, settings = load(), RuntimeSettings()
    with database_server(settings) as url, replay_services(url, settings) as reached:
        if not sys.stderr.isatty():
            return asyncio.run(run(reached, options, NoProgress(), data, settings))
        with RichProgress() as progress:
            return asyncio.run(run(reached, options, progress, data, settings))


def report(result: ReplayResult) -> BenchReport:
    """The bench's metrics and series from a replay."""
    metrics = {
        f"open_rate_over_{lift.baseline}": Metric(
            lift.value, "ratio", 1.0, "higher", (lift.low, lift.high)
        )
        for lift in result.lifts
    }
    rate = result.opens.rate
    metrics["open_rate"] = Metric(
        rate.value, "opens per send", result.opens.most_popular, "higher", (rate.low, rate.high)
    )
    error = result.days[-1].volume_error
    if error is not None:
        metrics["volume_error_last_day"] = Metric(
            abs(error), "share of target", VOLUME_TOLERANCE, "lower"
        )
    walls = sorted(day.wall_s for day in result.days)
    metrics["wall_s_per_day"] = Metric(walls[len(walls) // 2], "s", SECONDS_PER_DAY, "lower")
    return BenchReport("replay", metrics, _series(result), PACKAGES)


def _series(result: ReplayResult) -> dict[str, Any]:
    whole = result.as_json()
    return {
        "options": whole["options"],
        "setup_s": whole["setup"],
        "days": whole["days"],
        "opens": whole["opens"],
        "volume_error": [day.volume_error for day in result.days],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 1 when the system or the data can't be used."""
    parser = argparse.ArgumentParser(prog="python -m bench.replay", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--users", type=int, default=None, help="only so many users")
    parser.add_argument("--target", type=float, default=0.8, help="sends per user and day")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    try:
        options = ReplayOptions(given.days, given.users, given.target, given.seed)
        result = replayed(options)
    except (ValueError, DatasetError, ReplayError, ConfigurationError, PostgresError) as error:
        print(error, file=sys.stderr)
        return 1
    found = report(result)
    print_replay(result)
    found.print()
    found.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
