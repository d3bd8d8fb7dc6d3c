"""Stop switches as stored: read anew by every decision and lease, so that they act at once."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Row

from services.policy.stop_switches import Scope, StopSwitch, StopSwitches
from services.runtime.database import UnitOfWork, load_queries

_queries = load_queries(Path(__file__).with_name("configuration.sql"))


@dataclass(frozen=True, slots=True)
class Pause:
    """A closed switch, why, and since when."""

    switch: StopSwitch
    reason: str
    pause_time: datetime


async def closed(work: UnitOfWork) -> StopSwitches:
    """All switches closed now."""
    rows = await work.rows(_queries.closed_switches)
    return StopSwitches.of((row.scope, row.value) for row in rows)


async def close(work: UnitOfWork, switch: StopSwitch, reason: str, now: datetime) -> Pause:
    """Close a switch; one that is closed already stays as it is."""
    asked = {"scope": switch.scope, "value": switch.value, "reason": reason, "now": now}
    (row,) = await work.rows(_queries.close_switch, asked)
    return _pause(row)


async def reopen(work: UnitOfWork, switch: StopSwitch) -> bool:
    """Open a switch; whether it was closed."""
    asked = {"scope": switch.scope, "value": switch.value}
    return bool(await work.rows(_queries.open_switch, asked))


async def listed(work: UnitOfWork, after: Pause | None, limit: int) -> list[Pause]:
    """Closed switches, newest first, after a position."""
    asked = {
        "after_time": after.pause_time if after else None,
        "after_scope": after.switch.scope if after else "",
        "after_value": after.switch.value if after else "",
        "limit": limit,
    }
    return [_pause(row) for row in await work.rows(_queries.list_switches, asked)]


def _pause(row: Row[tuple[str, str, str, datetime]]) -> Pause:
    return Pause(StopSwitch(Scope(row.scope), row.value), row.reason, row.pause_time)
