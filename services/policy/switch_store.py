"""Stop switches as stored: read anew by every decision and lease, so that they act at once."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Row

from services.policy.stop_switches import Scope, StopSwitch, StopSwitches
from services.runtime import paging
from services.runtime.database import UnitOfWork, load_queries
from services.runtime.errors import InvalidArgument

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_queries = load_queries(Path(__file__).with_name("configuration.sql"))


@dataclass(frozen=True, slots=True)
class Pause:
    """A closed switch, why, and since when."""

    switch: StopSwitch
    reason: str
    pause_time: datetime


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page of closed switches ended."""

    pause_time: datetime
    scope: str
    value: str

    @staticmethod
    def of(pause: Pause) -> "Position":
        """The position of one switch."""
        return Position(pause.pause_time, pause.switch.scope.value, pause.switch.value)

    @staticmethod
    def read(token: str) -> "Position | None":
        """The position in a page token; None for an empty one. Raises InvalidArgument."""
        found = paging.decode(token, [int, str, str])
        if found is None:
            return None
        try:
            time = _EPOCH + timedelta(microseconds=int(found[0]))
        except OverflowError as error:
            raise InvalidArgument("page_token is not one of this call") from error
        return Position(time, str(found[1]), str(found[2]))

    def token(self) -> str:
        """The page token of this position."""
        microseconds = (self.pause_time - _EPOCH) // timedelta(microseconds=1)
        return paging.encode([microseconds, self.scope, self.value])


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


async def listed(work: UnitOfWork, after: Position | None, limit: int) -> list[Pause]:
    """Closed switches, newest first, after a position."""
    asked = {
        "after_time": after.pause_time if after else None,
        "after_scope": after.scope if after else "",
        "after_value": after.value if after else "",
        "limit": limit,
    }
    return [_pause(row) for row in await work.rows(_queries.list_switches, asked)]


def _pause(row: Row[tuple[str, str, str, datetime]]) -> Pause:
    return Pause(StopSwitch(Scope(row.scope), row.value), row.reason, row.pause_time)
