"""Reading who can be sent to, a page of users at a time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from services.policy.batch import Fatigue, Send
from services.policy.channel_bits import EMAIL, IN_APP, PUSH
from services.policy.preferences import QuietHours
from services.policy.rules.caps_and_gaps import WINDOW
from services.policy.sendability import Alike
from services.runtime.database import UnitOfWork, load_queries

_queries = load_queries(Path(__file__).with_name("sendability.sql"))


@dataclass(frozen=True, slots=True)
class Page:
    """Some users in a row."""

    groups: list[Alike]
    last_user: str
    """After whom the next page begins; empty when there are none left."""


async def read_page(
    work: UnitOfWork, after: str, limit: int, now: datetime, gap_seconds: float
) -> Page:
    """The next `limit` users after one of them."""
    asked = {
        "after": after,
        "limit": limit,
        "now": now,
        "counted_since": now - WINDOW,
        "gap_since": now - timedelta(seconds=gap_seconds),
    }
    rows = await work.rows(_queries.users_alike, asked)
    return Page([_alike(row, now) for row in rows], rows[0].last_user if rows else "")


def _alike(row: Row[Any], now: datetime) -> Alike:
    quiet = None if row.quiet_start is None else QuietHours(row.quiet_start, row.quiet_end)
    return Alike(
        user_ids=row.user_ids,
        time_zone=row.time_zone,
        opt_ins=row.opt_ins,
        reachable=row.reachable,
        muted_channels=row.muted_channels,
        quiet_hours=quiet,
        snooze_until=now + timedelta.resolution if row.snoozed else None,
        fatigue=_fatigue(row),
    )


def _fatigue(row: Row[Any]) -> Fatigue:
    """So many sends in each channel, as late as the last of a user of the group."""
    counts = ((PUSH, row.push), (EMAIL, row.email), (IN_APP, row.in_app))
    return Fatigue(
        [Send(row.last_time, channel, "") for channel, count in counts for _ in range(count)]
    )
