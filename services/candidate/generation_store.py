"""Campaigns and generation runs in Postgres. All functions work inside a unit of work."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from services.runtime.database import UnitOfWork, load_queries

QUERIES = load_queries(Path(__file__).with_name("work_queries.sql"))


@dataclass(frozen=True, slots=True)
class Run:
    """One call of GenerateDaily."""

    day: date
    shard: int
    shard_count: int
    sources: Sequence[str]


async def begin_run(work: UnitOfWork, run: Run, now: datetime) -> int:
    """Record that a run begins; returns its number."""
    params = {
        "day": run.day,
        "shard": run.shard,
        "shard_count": run.shard_count,
        "sources": list(run.sources),
        "now": now,
    }
    (row,) = await work.rows(QUERIES.insert_run, params)
    return int(row.run_id)


async def finish_run(work: UnitOfWork, run_id: int, users: int, events: int, now: datetime) -> None:
    """Record what a run did."""
    params = {"run_id": run_id, "users": users, "events": events, "now": now}
    await work.execute(QUERIES.finish_run, params)


async def asked_sources(
    work: UnitOfWork, day: date, user_ids: Collection[str]
) -> dict[str, frozenset[str]]:
    """Which sources were asked for users on a day, for users with any."""
    params = {"day": day, "user_ids": list(user_ids)}
    rows = await work.rows(QUERIES.generated_sources, params)
    return {row.user_id: frozenset(row.sources) for row in rows}


async def mark_asked(
    work: UnitOfWork, day: date, user_ids: Collection[str], sources: Collection[str]
) -> None:
    """Record that sources were asked for users on a day."""
    params = {"day": day, "user_ids": sorted(user_ids), "sources": list(sources)}
    await work.execute(QUERIES.mark_generated, params)
