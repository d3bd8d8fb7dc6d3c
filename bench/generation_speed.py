"""`python -m bench.generation_speed --users 1000000 --json OUT`: users per second of GenerateDaily.

The candidate service runs in a process of its own on an embedded Postgres, with users, items and
interactions put into its tables by COPY. GenerateDaily is called once for all users, with all
sources; the time is from the call to its last answer, with the users' index loaded before. How the
time splits over the stages is read from the service's metrics, its start (loading the index and
fitting the model) beside it; `propose` may overlap the other stages, so shares are of their sum.
The service's processor time and the most memory that it held don't depend on what else runs on the
machine.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from heliograph.candidate.v1alpha1 import generating_pb2

from bench.candidate_service import BenchService, bench_database, candidate_service
from bench.catalogue_data import copy_interactions, copy_items, copy_users
from bench.report import BenchReport, Metric

PACKAGES = ("grpcio", "numpy", "psycopg", "scipy", "sqlalchemy")
EVENT_TYPE = "item.suggestion"
ITEMS = 2_000
GOAL = 1_000_000 / 3_600
"""A million users within an hour."""
STAGES = "heliograph_candidate_generation_stage_seconds"
LOADING = "heliograph_candidate_index_load_seconds"
FITTING = "heliograph_candidate_index_fit_seconds"


def generated(service: BenchService) -> tuple[float, list[tuple[float, int]], int]:
    """Seconds that all users take, seconds and users done at each progress, and events made."""
    start = time.perf_counter()
    steps, events = [], 0
    for progress in service.stub.GenerateDaily(generating_pb2.GenerateDailyRequest()):
        steps.append((round(time.perf_counter() - start, 3), progress.user_count))
        events = sum(source.accepted_count for source in progress.sources)
    return time.perf_counter() - start, steps, events


def report(users: int, per_user: float) -> BenchReport:
    """One run."""
    with bench_database() as database:
        with psycopg.connect(database.url, autocommit=True) as connection:
            copy_users(connection, users)
            copy_items(connection, ITEMS)
            interactions = copy_interactions(connection, users, ITEMS, per_user)
        with candidate_service(database) as service:
            service.register(EVENT_TYPE)
            loading, fitting = (sum(service.sums(name, "").values()) for name in (LOADING, FITTING))
            started = service.cpu_seconds()
            seconds, steps, events = generated(service)
            stages = service.sums(STAGES, "stage")
            processor, memory = service.cpu_seconds() - started, service.peak_memory()
    series: dict[str, Any] = {
        "users": users,
        "items": ITEMS,
        "interactions": interactions,
        "events": events,
        "seconds": seconds,
        "index_load_s": loading,
        "index_fit_s": fitting,
        "service_cpu_s": processor,
        "service_peak_bytes": memory,
        "stage_s": stages,
        "progress": steps[:: max(1, len(steps) // 100)],
    }
    rate = Metric(users / seconds, "users per second", GOAL, "higher")
    return BenchReport("generation_speed", {"users_per_s": rate}, series, PACKAGES)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.generation_speed", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--interactions-per-user", type=float, default=5.0, help="on average")
    given = parser.parse_args(arguments)
    found = report(given.users, given.interactions_per_user)
    total = sum(found.series["stage_s"].values())
    for stage, seconds in found.series["stage_s"].items():
        print(f"{stage:10} {seconds:8.1f} s  {seconds / total:.0%}")
    for name in ("index_load_s", "index_fit_s", "service_cpu_s"):
        print(f"{name:15} {found.series[name]:8.1f} s")
    print(f"{'service peak':15} {found.series['service_peak_bytes'] / 2**30:8.2f} GiB")
    found.print()
    found.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
