"""Campaigns and generation runs in Postgres. All functions work inside a unit of work."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import numpy as np

from services.candidate import literals
from services.candidate.sources.availability import Yields
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
    params = {"day": day, "user_ids": literals.texts(user_ids)}
    rows = await work.rows(QUERIES.generated_sources, params)
    return {row.user_id: frozenset(row.sources) for row in rows}


async def mark_asked(work: UnitOfWork, day: date, sources: Mapping[str, Collection[str]]) -> None:
    """Record which sources were asked for users on a day; the users are locked."""
    if sources:
        params = {
            "day": day,
            "user_ids": literals.texts(sources),
            "sources": literals.texts(map(literals.texts, sources.values())),
        }
        await work.execute(QUERIES.mark_generated, params)


async def past_yields(
    work: UnitOfWork, day: date, since: date, sources: Sequence[str]
) -> list[tuple[float, Yields]]:
    """What the runs of the days before a day yielded, from `since`: each day's age, and its
    counts by group × these sources."""
    columns = {name: column for column, name in enumerate(sources)}
    found: dict[date, Yields] = {}
    for row in await work.rows(QUERIES.past_yields, {"day": day, "since": since}):
        if row.source in columns:
            yields = found.setdefault(row.day, Yields.none(len(columns)))
            for name in Yields.__slots__:
                getattr(yields, name)[row.segment, columns[row.source]] = getattr(row, name)
    return [(float((day - past).days), yields) for past, yields in found.items()]


async def add_yields(work: UnitOfWork, run_id: int, sources: Sequence[str], yields: Yields) -> None:
    """Count what a chunk of a run yielded."""
    groups, columns = np.nonzero(yields.asked + yields.skipped)
    if len(groups):
        params: dict[str, object] = {
            name: literals.numbers(getattr(yields, name)[groups, columns].astype(int).tolist())
            for name in Yields.__slots__
        }
        params["seconds"] = literals.numbers(yields.seconds[groups, columns].tolist())
        params["sources"] = literals.texts(sources[column] for column in columns.tolist())
        params["segments"] = literals.numbers(groups.tolist())
        await work.execute(QUERIES.add_yields, params | {"run_id": run_id})
