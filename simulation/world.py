"""A world with a known truth, made from ratings: what the system may know, and what it may not.

Each user's ratings are cut by their order in time: the first part is history, which the system is
told; a later part is held back as the truth of what the user likes. Most users rated in one or two
sittings, so the real dates of the later part can't drive simulated days: the truth has no dates.

All times are moved by one constant number of whole days, so that hours of the day stay and the
data set's last rating falls into the last day before the start.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from services.runtime.hashing import unit_hash
from simulation.movielens import MovieLens, Ratings

DEFAULT_START = datetime(2026, 1, 5, tzinfo=UTC)
SITTING_GAP_S = 30 * 60
"""Ratings of one user that are less than this many seconds apart belong to one sitting."""
LIKED_STARS = 4
"""Ratings from this many stars on mean that the user likes the item."""
UNKNOWN_YEAR = 1970
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Cut:
    """Shares of a user's ratings: history up to `history`, truth up to `truth`, the rest unused."""

    history: float
    truth: float
    is_drawn: bool = False
    """What is history and what is truth is drawn, from all ratings up to `truth` in order of time;
    else the first ones are history."""


REPLAY_CUT = Cut(history=0.7, truth=1.0)
"""History is the first 70 %, the truth the last 30 %."""
BOOTSTRAP_CUT = Cut(history=0.4, truth=0.7, is_drawn=True)
"""For the training log: what the replay's truth holds back isn't in it at all. Drawn, since people
rated what was new first: a history of everyone's first ratings would miss what is liked later."""


@dataclass(frozen=True, slots=True)
class Sitting:
    """A run of ratings of one user (by position) without a long pause: a session in the app."""

    user: int
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class World:
    """Users and items, the history (times moved, by user and time), and the truth.

    `truth` is [users, items]: the held-back stars, 0 where the user never rated the item in that
    part. `seen` is [users, items]: the item stands in the user's history.
    """

    start: datetime
    data: MovieLens
    history: Ratings
    truth: npt.NDArray[np.int8]
    seen: npt.NDArray[np.bool_]

    @property
    def liked(self) -> npt.NDArray[np.bool_]:
        """[users, items]: the user would open a notification about the item."""
        return self.truth >= LIKED_STARS


def make_world(data: MovieLens, cut: Cut, start: datetime = DEFAULT_START) -> World:
    """Cut the data set for days that begin at `start` (aware)."""
    ratings = data.ratings
    order = np.lexsort((ratings.item, ratings.time, ratings.user))
    ratings = ratings.take(order)
    counts = np.bincount(ratings.user, minlength=len(data.users))
    first = np.concatenate(([0], np.cumsum(counts)[:-1]))
    rank = np.arange(len(ratings)) - first[ratings.user]
    history_end = np.floor(counts * cut.history).astype(np.int64)[ratings.user]
    truth_end = np.floor(counts * cut.truth).astype(np.int64)[ratings.user]
    if cut.is_drawn:
        rank = _drawn(ratings.user, rank, truth_end)
    past = ratings.take(rank < history_end)
    held = ratings.take((rank >= history_end) & (rank < truth_end))
    shape = (len(data.users), len(data.items))
    truth = np.zeros(shape, np.int8)
    truth[held.user, held.item] = held.stars
    seen = np.zeros(shape, np.bool_)
    seen[past.user, past.item] = True
    moved = past.time + _shift(data.ratings, start)
    history = Ratings(past.user, past.item, past.stars, moved)
    return World(start, data, history, truth, seen)


def _drawn(
    user: npt.NDArray[np.int32], rank: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Other ranks of ratings that stand by user and time: each user's below `end` shuffled."""
    key = np.random.default_rng(0).random(len(rank)) + (rank >= end) * (1 + rank)
    order = np.lexsort((key, user))
    found = np.empty_like(rank)
    found[order] = rank
    return found


def _shift(ratings: Ratings, start: datetime) -> int:
    """Seconds, a multiple of a day, that bring the last rating into the day before the start."""
    if not len(ratings):
        return 0
    gap = int(start.timestamp()) - int(ratings.time.max())
    return gap // DAY_S * DAY_S


def some_users(data: MovieLens, count: int | None, seed: int) -> MovieLens:
    """The data set with `count` of its users, drawn by a hash with the seed; None: with all."""
    if count is None or count >= len(data.users):
        return data
    by_hash = sorted(
        range(len(data.users)), key=lambda row: unit_hash(f"users:{seed}", data.users[row].user_id)
    )
    kept = np.array(sorted(by_hash[:count]), np.int64)
    position = np.full(len(data.users), -1, np.int32)
    position[kept] = np.arange(len(kept), dtype=np.int32)
    chosen = data.ratings.take(position[data.ratings.user] >= 0)
    ratings = Ratings(position[chosen.user], chosen.item, chosen.stars, chosen.time)
    return MovieLens(tuple(data.users[row] for row in kept), data.items, ratings)


def sittings(world: World, since: datetime | None = None) -> list[Sitting]:
    """The history's sittings that end at `since` or later, by user and time."""
    history = world.history
    if not len(history):
        return []
    new_user = np.diff(history.user, prepend=-1) != 0
    pause = np.diff(history.time, prepend=history.time[0]) >= SITTING_GAP_S
    starts = np.flatnonzero(new_user | pause)
    ends = np.append(starts[1:], len(history)) - 1
    first = since.timestamp() if since else -np.inf
    return [
        Sitting(
            int(history.user[begin]),
            datetime.fromtimestamp(int(history.time[begin]), UTC),
            datetime.fromtimestamp(int(history.time[end]), UTC),
        )
        for begin, end in zip(starts, ends, strict=True)
        if history.time[end] >= first
    ]


def first_seen(world: World) -> list[datetime]:
    """For each user the time of the first rating of all, moved: when the user joined."""
    joined = [world.start - timedelta(days=1)] * len(world.data.users)
    users, rows = np.unique(world.history.user, return_index=True)
    for user, row in zip(users, rows, strict=True):
        joined[int(user)] = datetime.fromtimestamp(int(world.history.time[row]), UTC)
    return joined


def item_created(world: World, seed: int) -> list[datetime]:
    """For each item when it came into the catalogue, moved as all times.

    The data set has the year alone: a day of that year drawn by a hash with the seed (of the last
    year: before the last rating; without a year: 1970), or the item's first rating in the history
    where that is earlier.
    """
    moved = _shift(world.data.ratings, world.start)
    last = datetime.fromtimestamp(int(world.data.ratings.time.max(initial=0)), UTC)
    first_rated = np.full(len(world.data.items), np.iinfo(np.int64).max)
    np.minimum.at(first_rated, world.history.item, world.history.time)
    created = []
    for row, item in enumerate(world.data.items):
        year = item.year or UNKNOWN_YEAR
        begin = datetime(year, 1, 1, tzinfo=UTC)
        end = max(begin, min(datetime(year + 1, 1, 1, tzinfo=UTC), last))
        drawn = begin + unit_hash(f"created:{seed}", item.item_id) * (end - begin)
        seconds = min(int(drawn.timestamp()) + moved, int(first_rated[row]))
        created.append(datetime.fromtimestamp(seconds, UTC))
    return created


def interaction_weight(stars: int) -> float:
    """Weight of a rating as an interaction: stars − 3, and 0.5 for the 3 that would be nothing."""
    return float(stars - 3) or 0.5
