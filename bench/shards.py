"""The user index in shards: latency of RecommendUsersToItem through the front, and memory of a
shard, by the number of shards; all beside one whole index on one database, asked in turns.

    python -m bench.shards --users 50000 --json out/shards.json

Memory is resident memory less that of the front, which is the same program without an index.
"""

import argparse
import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psycopg
from heliograph.candidate.v1alpha1 import recommending_pb2
from pydantic import SecretStr

from bench.candidate_service import BenchService, candidate_service
from bench.catalogue_data import copy_interactions, copy_items, copy_users, item_id
from bench.interleaved import interleaved, ratio
from bench.report import BenchReport, Metric
from bench.service_process import BenchDatabase, bench_database
from services.candidate.index import reading
from services.candidate.index.tables import Tables
from services.candidate.models import FitOptions, fit, save
from services.runtime.database import Database
from services.runtime.roles import service_url

COUNTS = (1, 2, 4)
ITEMS = 2_000
PER_USER = 10.0
ASKED = 100
"""Users in an answer."""
LATENCY_GOAL = 2.0
"""Most that the median of a call through the front may be, over that of one index."""
MEMORY_SLACK = 1.25
"""Most that a shard's memory may be, over its part of that of one shard of all."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = measure(options.users, options.rounds)
    report.print()
    if options.json:
        report.write(options.json)


def measure(users: int, rounds: int) -> BenchReport:
    """Start one whole index and each number of shards with a front, and ask them in turns."""
    with bench_database() as database, ExitStack() as stack:
        with psycopg.connect(database.url, autocommit=True) as connection:
            copy_users(connection, users)
            copy_items(connection, ITEMS)
            pairs = copy_interactions(connection, users, ITEMS, PER_USER)
        folder = database.folder / "model"
        asyncio.run(_fit(database, folder))
        environ = {**ONE_THREAD, "HELIOGRAPH_CANDIDATE_MODEL_FOLDER": str(folder)}
        whole = stack.enter_context(candidate_service(database, environ))
        fronts, shards = {}, {}
        for count in COUNTS:
            fronts[count], shards[count] = _start(stack, database, environ, count)
        asked = {"whole": whole} | {f"front_{count}": front for count, front in fronts.items()}
        seconds = interleaved({name: _question(each) for name, each in asked.items()}, rounds)
        least = min(front.memory() for front in fronts.values())
        sizes = {
            count: [shard.memory() - least for shard in found] for count, found in shards.items()
        }
    metrics = {}
    for count in COUNTS:
        value, interval = ratio(seconds[f"front_{count}"], seconds["whole"])
        name = f"latency_{count}_shards_over_whole"
        metrics[name] = Metric(value, "ratio", LATENCY_GOAL, "lower", interval)
        share = max(sizes[count]) / sizes[1][0]
        goal = MEMORY_SLACK / count
        metrics[f"memory_of_{count}_shards_over_one"] = Metric(share, "ratio", goal, "lower")
    series = {
        "users": users,
        "interactions": pairs,
        "median_milliseconds": {
            name: 1e3 * float(np.median(found)) for name, found in seconds.items()
        },
        "megabytes": {count: [size / 2**20 for size in found] for count, found in sizes.items()},
        "front_megabytes": least / 2**20,
    }
    return BenchReport("shards", metrics, series, ["numpy", "scipy", "grpcio"])


def _start(
    stack: ExitStack, database: BenchDatabase, environ: dict[str, str], count: int
) -> tuple[BenchService, list[BenchService]]:
    shards = [
        stack.enter_context(
            candidate_service(
                database,
                environ
                | {
                    "HELIOGRAPH_CANDIDATE_SHARD": str(shard),
                    "HELIOGRAPH_CANDIDATE_SHARD_COUNT": str(count),
                },
            )
        )
        for shard in range(count)
    ]
    addresses = ",".join(shard.address for shard in shards)
    front = {**ONE_THREAD, "HELIOGRAPH_CANDIDATE_SHARDS": addresses}
    return stack.enter_context(candidate_service(database, front)), shards


async def _fit(database: BenchDatabase, folder: Path) -> None:
    """The quick form of what `heliograph candidate fit` makes."""
    url = service_url(database.url, "candidate", SecretStr(database.secret_key))
    opened = Database(url)
    try:
        async with opened.read() as work:
            tables, _, _ = await reading.read_changes(work, Tables.empty(), reading.BEGINNING)
    finally:
        await opened.close()
    save(fit(tables.interactions, FitOptions(effort="quick")), folder)


def _question(service: BenchService) -> Callable[[int], object]:
    def ask(number: int) -> object:
        request = recommending_pb2.RecommendUsersToItemRequest(item_id=item_id(number % ITEMS))
        request.parameters.count = ASKED
        return service.stub.RecommendUsersToItem(request, timeout=60.0)

    return ask


if __name__ == "__main__":
    main()
