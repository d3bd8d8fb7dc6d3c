"""Reading who can be sent to, a partition of the users at a time."""

from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from services.policy.batch import Fatigue, Send
from services.policy.preferences import QuietHours
from services.policy.rules.caps_and_gaps import WINDOW
from services.policy.sendability import Alike
from services.runtime.database import UnitOfWork, load_queries

_queries = load_queries(Path(__file__).with_name("sendability.sql"))


async def partitions(work: UnitOfWork) -> list[int]:
    """The numbers of the partitions, which together have all users."""
    return [row.number for row in await work.rows(_queries.partitions)]


async def read_partition(
    work: UnitOfWork, number: int, now: datetime, gap_seconds: float
) -> list[Alike]:
    """The users of one partition."""
    asked = {
        "now": now,
        "counted_since": now - WINDOW,
        "gap_since": now - timedelta(seconds=gap_seconds),
    }
    query = text(_queries.users_alike.text.format(number=number))
    return [_alike(row.kind, row.user_ids, now) for row in await work.rows(query, asked)]


def _alike(kind: str, user_ids: str, now: datetime) -> Alike:
    opt_ins, reachable, muted, start, end, snoozed, channels, in_gap, zone = kind.split(",")
    return Alike(
        user_ids=user_ids,
        time_zone=zone,
        opt_ins=int(opt_ins),
        reachable=int(reachable),
        muted_channels=int(muted),
        quiet_hours=QuietHours(int(start), int(end)) if start else None,
        snooze_until=now + timedelta.resolution if snoozed == "t" else None,
        fatigue=_fatigue(channels, now if in_gap == "t" else now - WINDOW),
    )


def _fatigue(channels: str, after: datetime) -> Fatigue:
    """Sends in some channels, a digit each, as late as tells whether they are in the gap."""
    time = after + timedelta.resolution
    return Fatigue([Send(time, int(channel), "") for channel in channels])
