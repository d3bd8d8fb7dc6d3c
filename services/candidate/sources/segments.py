"""How active users are: the groups by which the sources' yields are learned."""

from datetime import datetime, timedelta
from enum import IntEnum

import numpy as np

from services.candidate.sources.arrays import Rows
from services.candidate.sources.catalogue import NEVER, Catalogue, utc_microseconds

ACTIVE = timedelta(days=7)
CASUAL = timedelta(days=28)


class Activity(IntEnum):
    """By the time since a user's last interaction; candidate's own groups, not policy's segments,
    which aren't known here. Numbers as in the tables."""

    NEW = 0
    """Has not interacted yet."""
    ACTIVE = 1
    """Within a week."""
    CASUAL = 2
    """Within four weeks."""
    DORMANT = 3
    """Longer ago."""


def activities(catalogue: Catalogue, now: datetime) -> Rows:
    """The Activity of each user at `now` (aware)."""
    last = catalogue.last_interaction
    since = utc_microseconds(now) - last
    return np.select(
        [last == NEVER, since <= np.timedelta64(ACTIVE), since <= np.timedelta64(CASUAL)],
        [Activity.NEW, Activity.ACTIVE, Activity.CASUAL],
        Activity.DORMANT,
    ).astype(np.int64)
