"""Limits of campaigns: how many users are told of an item, and how many events a team makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from services.candidate import requests
from services.candidate.generation_store import QUERIES
from services.candidate.questions import Omission
from services.runtime.database import Database, UnitOfWork

METHOD = "PutTeamQuota"


@dataclass(frozen=True, slots=True)
class Spread:
    """At most `users` are told of an item within `window`."""

    item_id: str
    users: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class Quota:
    """What a team's campaigns may make a day."""

    team: str
    events_per_day: int | None
    """None: no limit."""
    used: int = 0
    """Events made today."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Which members of an audience may get an event."""

    places: Sequence[int]
    """Their positions, in order."""
    omitted: dict[Omission, int]
    """How many others there are, by reason."""


async def lock(work: UnitOfWork, item_id: str, team: str) -> None:
    """Until the unit of work ends, no other campaign's events about the item, or of the team, are
    made; so that `admitted` is exact."""
    await work.execute(QUERIES.lock_item, {"item_id": item_id})
    if team:
        await work.execute(QUERIES.lock_team, {"team": team})


async def admitted(
    work: UnitOfWork, user_ids: Sequence[str], spread: Spread | None, team: str, now: datetime
) -> Admitted:
    """Who of an audience, best first, is within the limits."""
    places = list(range(len(user_ids)))
    omitted = {}
    if spread is not None:
        within = await _within_spread(work, user_ids, spread, now)
        omitted[Omission.SPREAD_CAP] = len(places) - len(within)
        places = within
    left = await _quota_left(work, team, now.date()) if team else None
    if left is not None:
        omitted[Omission.TEAM_QUOTA] = max(0, len(places) - left)
        places = places[:left]
    return Admitted(places, {reason: count for reason, count in omitted.items() if count})


async def use(work: UnitOfWork, team: str, events: int, now: datetime) -> None:
    """Count events that a team's campaign makes."""
    if team and events:
        await work.execute(QUERIES.use_quota, {"team": team, "day": now.date(), "events": events})


class Quotas:
    """Sets and lists the quotas of teams."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, quota: Quota, request_id: str, now: datetime) -> None:
        """Set a team's quota. Raises AlreadyExists when the request id was used for something
        else."""
        digest = f"{quota.events_per_day}:{quota.team}".encode()
        async with self._database.unit_of_work() as work:
            if await requests.answered(work, METHOD, request_id, digest) is None:
                params = {"team": quota.team, "events_per_day": quota.events_per_day}
                await work.execute(QUERIES.put_team_quota, params)
                await requests.keep(work, METHOD, request_id, digest, b"", now)
                await work.commit()

    async def page(self, after: str, count: int, now: datetime) -> list[Quota]:
        """Quotas by team, after a team."""
        params = {"day": now.date(), "after": after, "count": count}
        async with self._database.read() as work:
            rows = await work.rows(QUERIES.list_team_quotas, params)
        return [Quota(row.team, row.events_per_day, row.used) for row in rows]


async def _within_spread(
    work: UnitOfWork, user_ids: Sequence[str], spread: Spread, now: datetime
) -> list[int]:
    params = {
        "item_id": spread.item_id,
        "since": now - spread.window,
        "user_ids": list(user_ids),
    }
    (told,) = await work.rows(QUERIES.told_users, params)
    again, left = set(told.again), max(0, spread.users - told.total)
    within = []
    for place, user in enumerate(user_ids):
        if user not in again:
            if not left:
                continue
            left -= 1
        within.append(place)
    return within


async def _quota_left(work: UnitOfWork, team: str, day: date) -> int | None:
    rows = await work.rows(QUERIES.team_quota, {"team": team, "day": day})
    if not rows or rows[0].events_per_day is None:
        return None
    return max(0, int(rows[0].events_per_day) - int(rows[0].used))
