"""`python -m bench.index_upkeep --users 1000000 --json OUT`: what following changes costs.

The user index is loaded from an embedded Postgres, its model fitted, and then refreshed after each
of several kinds of change, which are written the way the service writes them. A refresh reads what
changed and makes a new state; it is compared with loading everything. The median of ROUNDS rounds;
each round is a change of its own. Beside the time on the clock stands the processor time of the
index, without the database's, which depends less on what else runs on the machine.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import psycopg
from pydantic import SecretStr

from bench.catalogue_data import (
    copy_interactions,
    copy_items,
    copy_relations,
    copy_users,
    item_id,
    user_body,
    user_id,
)
from bench.report import BenchReport, Metric
from bench.service_process import bench_database
from services.candidate.attribute_types import AttributeTypes
from services.candidate.catalogue import CatalogueWriter
from services.candidate.catalogue_store import Interaction, Record, Relation, RelationKind
from services.candidate.index import IndexOptions, UserIndex
from services.runtime.clock import Clock
from services.runtime.database import Database
from services.runtime.roles import service_url

PACKAGES = ("numpy", "psycopg", "pyarrow", "scipy", "sqlalchemy")
ITEMS = 2_000
PER_USER = 5.0
TIES = 10
ROUNDS = 5
NEW_INTERACTIONS = 1_000
CHANGED_USERS = 100
GOAL_SECONDS = 1.0
GOAL_SHARE = 0.02
"""Of the processor time of loading everything."""


class Seconds(NamedTuple):
    """How long something takes."""

    clock: float
    processor: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run took."""

    load: Seconds
    fit: Seconds
    refreshes: Mapping[str, Sequence[Seconds]]
    """By kind of change."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes changes. Each round touches users of its own."""

    catalogue: CatalogueWriter
    users: int
    random: np.random.Generator

    async def interactions(self, _round: int) -> None:
        """A batch of new interactions."""
        now = datetime.now(UTC)
        who = self.random.integers(0, self.users // 2, NEW_INTERACTIONS).tolist()
        what = self.random.integers(0, ITEMS, NEW_INTERACTIONS).tolist()
        found = [
            Interaction(user_id(user), item_id(item), now - timedelta(seconds=n), 1.0, "open")
            for n, (user, item) in enumerate(zip(who, what, strict=True))
        ]
        await self.catalogue.put_interactions(found, now)

    async def changed_users(self, place: int) -> None:
        """The same, and users whose attributes are others."""
        await self.interactions(place)
        numbers = self.random.integers(0, self.users // 2, CHANGED_USERS).tolist()
        await self._put([user_id(number) for number in numbers], age=90 + place)

    async def new_users(self, place: int) -> None:
        """The same, and users who are new: all others move."""
        await self.changed_users(place)
        await self._put([f"{user_id(n)}-{place}" for n in range(CHANGED_USERS)], age=20)

    async def erased_user(self, place: int) -> None:
        """One user is erased."""
        name = user_id(self.users - 1 - place)
        await self.catalogue.erase_user(name, datetime.now(UTC))

    async def relations(self, place: int) -> None:
        """As many new relations as changed users."""
        await self._relate(place, removed=False)

    async def removed_relations(self, place: int) -> None:
        """The same are removed again."""
        await self._relate(place, removed=True)

    async def _put(self, names: Sequence[str], age: int) -> None:
        now = datetime.now(UTC)
        await self.catalogue.put_users([Record(n, user_body(n, age), now) for n in names], now)

    async def _relate(self, place: int, *, removed: bool) -> None:
        follow = RelationKind.FOLLOWS
        target = f"creator-{place}"
        await self.catalogue.put_relations(
            [Relation(user_id(n), follow, target, 1.0, removed) for n in range(CHANGED_USERS)],
            datetime.now(UTC),
        )


async def measured(database: Database, users: int) -> Measured:
    """Loading everything, the fit, and refreshes by kind of change."""
    options = IndexOptions(timedelta(days=1), seed=0, threads=1)
    index = UserIndex(database, Clock(), options)
    load = await _seconds(index.refresh)
    fit = await _seconds(index.fitted)
    catalogue = CatalogueWriter(database, AttributeTypes(database), timedelta(minutes=5))
    writer = Writer(catalogue, users, np.random.default_rng(1))
    kinds: Sequence[Callable[[int], Awaitable[None]]] = (
        writer.interactions,
        writer.changed_users,
        writer.new_users,
        writer.erased_user,
        writer.relations,
        writer.removed_relations,
    )
    found: dict[str, list[Seconds]] = {}
    for write in kinds:
        for place in range(ROUNDS):
            await write(place)
            found.setdefault(write.__name__, []).append(await _seconds(index.refresh))
    return Measured(load, fit, found)


async def _seconds(run: Callable[[], Awaitable[Any]]) -> Seconds:
    began, processor = time.perf_counter(), time.process_time()
    await run()
    return Seconds(time.perf_counter() - began, time.process_time() - processor)


def report(users: int) -> BenchReport:
    """One run."""
    with bench_database() as place:
        with psycopg.connect(place.url, autocommit=True) as connection:
            copy_users(connection, users, attributes=True)
            copy_items(connection, ITEMS)
            interactions = copy_interactions(connection, users, ITEMS, PER_USER)
            relations = copy_relations(connection, users, TIES)
        url = service_url(place.url, "candidate", SecretStr(place.secret_key))

        async def run() -> Measured:
            database = Database(url)
            try:
                return await measured(database, users)
            finally:
                await database.close()

        found = asyncio.run(run())
    middle = {
        kind: Seconds(*(median(column) for column in zip(*times, strict=True)))
        for kind, times in found.refreshes.items()
    }
    series: dict[str, Any] = {
        "users": users,
        "interactions": interactions,
        "relations": relations,
        "load_s": found.load._asdict(),
        "fit_s": found.fit._asdict(),
        "refresh_s": {kind: seconds._asdict() for kind, seconds in middle.items()},
    }
    usual = middle["changed_users"]
    share = usual.processor / found.load.processor
    metrics = {
        "refresh_s": Metric(usual.clock, "seconds", GOAL_SECONDS, "lower"),
        "refresh_share_of_load": Metric(share, "of a full load", GOAL_SHARE, "lower"),
    }
    return BenchReport("index_upkeep", metrics, series, PACKAGES)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.index_upkeep", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    parser.add_argument("--users", type=int, default=100_000)
    given = parser.parse_args(arguments)
    found = report(given.users)
    times = {name: found.series[f"{name}_s"] for name in ("load", "fit")}
    for kind, seconds in {**times, **found.series["refresh_s"]}.items():
        print(f"{kind:18} {seconds['clock']:8.3f} s, processor {seconds['processor']:8.3f} s")
    found.print()
    found.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
