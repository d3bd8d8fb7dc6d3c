"""`python -m bench.generation_speed --users 1000000 --json OUT`: users per second of GenerateDaily.

The candidate service runs in a process of its own on an embedded Postgres, with users, items and
interactions put into its tables by COPY. GenerateDaily is called once for all users, with all
sources; the time is from the call to its last answer, with the users' index loaded before. How the
time splits over the stages is read from the service's metrics, its start (loading the index and
fitting the model) beside it; `propose` may overlap the other stages, so shares are of their sum.
Further days leave out what the users had before; the figure is that of the first. The service's
processor time and the most memory that it held depend little on what else runs on the machine.

At last all pools are counted, as the service's upkeep does, twice: after every user's bound has got
too high, as it does where events ended, and when all are right; half of the time it rests.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from heliograph.candidate.v1alpha1 import generating_pb2
from pydantic import SecretStr

from bench.candidate_service import BenchService, candidate_service
from bench.catalogue_data import copy_interactions, copy_items, copy_users
from bench.report import BenchReport, Metric
from bench.service_process import BenchDatabase, bench_database
from services.candidate.settings import CandidateSettings
from services.candidate.upkeep import Upkeep
from services.runtime.database import Database
from services.runtime.roles import service_url

PACKAGES = ("grpcio", "numpy", "psycopg", "scipy", "sqlalchemy")
EVENT_TYPE = "item.suggestion"
ITEMS = 2_000
DAY = datetime.now(UTC).date() - timedelta(days=6)
"""The first one: the service generates days from six days ago to tomorrow."""
GOAL = 1_000_000 / 3_600
"""A million users within an hour."""
STAGES = "heliograph_candidate_generation_stage_seconds"
LOADING = "heliograph_candidate_index_load_seconds"
FITTING = "heliograph_candidate_index_fit_seconds"


@dataclass(frozen=True, slots=True)
class Run:
    """One day's generation for all users."""

    seconds: float
    processor: float
    """Seconds of the service's."""
    steps: list[tuple[float, int]]
    """Seconds and users done at each progress."""
    events: int
    stages: dict[str, float]
    """Seconds by stage."""


def generated(service: BenchService, day: date) -> Run:
    """Call GenerateDaily."""
    start, processor = time.perf_counter(), service.cpu_seconds()
    before = service.sums(STAGES, "stage")
    steps, events = [], 0
    request = generating_pb2.GenerateDailyRequest(day=day.isoformat())
    for progress in service.stub.GenerateDaily(request):
        steps.append((round(time.perf_counter() - start, 3), progress.user_count))
        events = sum(source.accepted_count for source in progress.sources)
    stages = {
        stage: seconds - before.get(stage, 0.0)
        for stage, seconds in service.sums(STAGES, "stage").items()
    }
    seconds = time.perf_counter() - start
    return Run(seconds, service.cpu_seconds() - processor, steps, events, stages)


def counting(place: BenchDatabase) -> dict[str, float]:
    """Seconds that counting all pools takes, with all bounds too high and with none."""
    found = {}
    for name in ("all_too_high", "none"):
        if name == "all_too_high":
            with psycopg.connect(place.url) as connection:
                connection.execute("UPDATE candidate.users SET pool_bound = pool_bound + 1")
        start = time.perf_counter()
        asyncio.run(_count(service_url(place.url, "candidate", SecretStr(place.secret_key))))
        found[name] = time.perf_counter() - start
    return found


async def _count(url: str) -> None:
    database = Database(url)
    try:
        await Upkeep(database, CandidateSettings()).count_pools()
    finally:
        await database.close()


def report(users: int, per_user: float, days: int) -> BenchReport:
    """One run."""
    with bench_database() as database:
        with psycopg.connect(database.url, autocommit=True) as connection:
            copy_users(connection, users)
            copy_items(connection, ITEMS)
            interactions = copy_interactions(connection, users, ITEMS, per_user)
        with candidate_service(database) as service:
            service.register(EVENT_TYPE)
            loading, fitting = (sum(service.sums(name, "").values()) for name in (LOADING, FITTING))
            runs = [generated(service, DAY + timedelta(days=day)) for day in range(days)]
            memory = service.peak_memory()
            counted = counting(database)
    first = runs[0]
    series: dict[str, Any] = {
        "users": users,
        "items": ITEMS,
        "interactions": interactions,
        "events": first.events,
        "seconds": first.seconds,
        "index_load_s": loading,
        "index_fit_s": fitting,
        "service_cpu_s": first.processor,
        "service_peak_bytes": memory,
        "stage_s": first.stages,
        "count_pools_s": counted,
        "progress": first.steps[:: max(1, len(first.steps) // 100)],
        "days": [
            {"seconds": run.seconds, "service_cpu_s": run.processor, "events": run.events}
            for run in runs
        ],
    }
    rate = Metric(users / first.seconds, "users per second", GOAL, "higher")
    return BenchReport("generation_speed", {"users_per_s": rate}, series, PACKAGES)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.generation_speed", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--interactions-per-user", type=float, default=5.0, help="on average")
    parser.add_argument("--days", type=int, default=1, help="one after the other; at most 8")
    given = parser.parse_args(arguments)
    found = report(given.users, given.interactions_per_user, given.days)
    total = sum(found.series["stage_s"].values())
    for stage, seconds in found.series["stage_s"].items():
        print(f"{stage:10} {seconds:8.1f} s  {seconds / total:.0%}")
    for name in ("index_load_s", "index_fit_s", "service_cpu_s"):
        print(f"{name:15} {found.series[name]:8.1f} s")
    print(f"{'service peak':15} {found.series['service_peak_bytes'] / 2**30:8.2f} GiB")
    for name, seconds in found.series["count_pools_s"].items():
        print(f"pools counted, bounds too high: {name:12} {seconds:8.1f} s")
    for place, run in enumerate(found.series["days"], 1):
        rate = given.users / run["seconds"]
        print(f"day {place:2}  {rate:8.1f} users/s  processor {run['service_cpu_s']:8.1f} s")
    found.print()
    found.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
