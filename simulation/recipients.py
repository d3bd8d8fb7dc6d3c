"""How the world's users can be reached: channels, time zone and hours. A stated rule, no data.

MovieLens knows nothing of channels. 85 % of the users take push, 60 % e-mail (each drawn by a
hash of the user with the seed), everybody the in-app inbox.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from services.runtime.hashing import unit_hash
from simulation.world import World

PUSH_SHARE = 0.85
EMAIL_SHARE = 0.60
DEFAULT_HOURS = (9, 13, 19)
WAKING_HOURS = range(8, 22)
"""Local hours in which a slot makes sense: outside the default quiet hours."""
HOURS_APART = 3
"""Least distance of two favourite hours: the default gap between two sends."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How one user can be reached. No hours: the deployment's default."""

    user: int
    push: bool
    email: bool
    time_zone: str
    slot_hours: tuple[int, ...]


def reaches(world: World, seed: int) -> list[Reach]:
    """For each user of the world, in order, how they can be reached."""
    history = world.history
    found = []
    for row, user in enumerate(world.data.users):
        times = history.time[history.user == row]
        found.append(
            Reach(
                user=row,
                push=unit_hash(f"push:{seed}", user.user_id) < PUSH_SHARE,
                email=unit_hash(f"email:{seed}", user.user_id) < EMAIL_SHARE,
                time_zone=user.time_zone,
                slot_hours=favourite_hours(times, user.time_zone),
            )
        )
    return found


def favourite_hours(times: npt.NDArray[np.int64], time_zone: str) -> tuple[int, ...]:
    """Two local hours at which the user likes to be notified, in order of the day.

    The waking hour with most ratings, then the next at least 3 h away from it. Most histories are
    one sitting: then the second is the default hour farthest from the first. Empty when no rating
    fell into a waking hour. `times`: seconds since 1970.
    """
    counts = np.zeros(24, np.int64)
    np.add.at(counts, local_hours(times, time_zone), 1)
    waking = [hour for hour in sorted(WAKING_HOURS, key=lambda hour: -counts[hour]) if counts[hour]]
    if not waking:
        return ()
    first = waking[0]
    apart = [hour for hour in waking if abs(hour - first) >= HOURS_APART]
    second = apart[0] if apart else max(DEFAULT_HOURS, key=lambda hour: abs(hour - first))
    return tuple(sorted((first, second)))


def slot_moments(reaches: Sequence[Reach], start: datetime) -> list[datetime]:
    """The full hours of the UTC day from `start` at which someone has a slot, midnight included."""
    clocks = {(reach.time_zone, reach.slot_hours or DEFAULT_HOURS) for reach in reaches}
    moments = [start + timedelta(hours=hour) for hour in range(24)]
    return [
        moment
        for moment in moments
        if moment == start
        or any(moment.astimezone(ZoneInfo(zone)).hour in hours for zone, hours in clocks)
    ]


def local_hours(times: npt.NDArray[np.int64], time_zone: str) -> npt.NDArray[np.int64]:
    """Hour of the day, 0–23, in a time zone for each of these seconds since 1970."""
    zone = ZoneInfo(time_zone)
    hours, place = np.unique(times // 3600, return_inverse=True)
    local = [_local_hour(int(hour) * 3600, zone) for hour in hours]
    return np.array(local, np.int64)[place]


def _local_hour(seconds: int, zone: ZoneInfo) -> int:
    return datetime.fromtimestamp(seconds, zone).hour
