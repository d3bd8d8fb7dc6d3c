"""Validation windows: what was known, and what was met afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from services.candidate.models.context import Clock
from services.candidate.models.interactions import Interactions
from services.candidate.sources.arrays import Floats, Mask, Matrix, sparse

Split = Literal["auto", "time", "user"]
DAY = 86400.0
MOST_HORIZON = 7 * DAY
WINDOWS = 8
LEAST_HISTORY = 0.1
"""Share of all interactions that has to lie before the first window."""
HELD_OUT = 0.1
"""Share of each user's interactions held out where a split in time is not possible."""


@dataclass(frozen=True, eq=False)
class Window:
    """One split, users × items."""

    known: Interactions
    met: Matrix
    """1 where a pair interacted in the window for the first time."""
    clock: Clock | None
    """When the window begins and how long it is; None: not a window in time."""
    by_new_users: Matrix
    """1 where a user without an interaction before met a known item."""
    new_items_by: Matrix
    """1 where a known user met an item without an interaction before."""

    def transposed(self) -> "Window":
        """Items × users."""
        met, by_new, new_by = (
            table.T.tocsr() for table in (self.met, self.by_new_users, self.new_items_by)
        )
        return Window(self.known.transposed, met, self.clock, new_by, by_new)


def default_horizon(interactions: Interactions) -> float:
    """Seconds: a week, or an eighth of the time that the interactions span when that is less."""
    times = interactions.times
    if times is None or not len(times):
        return MOST_HORIZON
    return float(min(MOST_HORIZON, max((times.max() - times.min()) / 8, 1.0)))


def end_of(interactions: Interactions, horizon: float) -> Clock | None:
    """Now: just after the last interaction."""
    times = interactions.times
    if times is None or not len(times):
        return None
    return Clock(float(times.max()) + 1.0, horizon)


@dataclass(frozen=True, eq=False, slots=True)
class Windows:
    """The validation windows, oldest first."""

    choice: Sequence[Window]
    """By which scorers and weights are chosen: somebody known met something known in each."""
    calibration: Sequence[Window]
    """By which relevance is calibrated, as they come: in some nothing may have been met."""

    def transposed(self) -> "Windows":
        """Items × users."""
        turned = {window: window.transposed() for window in (*self.choice, *self.calibration)}
        return Windows(
            [turned[window] for window in self.choice],
            [turned[window] for window in self.calibration],
        )


def time_windows(interactions: Interactions, clock: Clock, count: int = WINDOWS) -> list[Window]:
    """The last `count` windows of one horizon each before the clock, oldest first, but for those
    with too little before them."""
    times = interactions.times
    if times is None:
        raise ValueError("windows in time need timestamps")
    found = []
    for back in range(count, 0, -1):
        begin = clock.now - back * clock.horizon
        if (times < begin).mean() < LEAST_HISTORY:
            continue
        found.append(split_at(interactions, Clock(begin, clock.horizon)))
    return found


def split_at(interactions: Interactions, clock: Clock) -> Window:
    """What is known before the clock, and what is met within its horizon."""
    times = interactions.times
    if times is None:
        raise ValueError("windows in time need timestamps")
    known = times < clock.now
    later = ~known & (times < clock.now + clock.horizon)
    return _window(interactions, known, later, clock)


def user_window(
    interactions: Interactions, seed: int, share: float = HELD_OUT, *, by_chance: bool = False
) -> Window:
    """One window that holds out a share of each user's interactions: the latest by time, or where
    there is no time random ones. A user keeps at least one. Of a share that is no whole number the
    rest is kept, or `by_chance` held out as often as it says: users with few interactions, too."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(interactions))
    if interactions.times is not None:
        order = order[np.argsort(interactions.times[order], kind="stable")]
    order = order[np.argsort(interactions.users[order], kind="stable")]
    counts = np.bincount(interactions.users, minlength=len(interactions.user_ids))
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = np.ceil(counts * (1 - share))
    if by_chance:
        kept = np.maximum(np.floor(counts * (1 - share) + generator.random(len(counts))), 1)
    later = np.zeros(len(order), np.bool_)
    later[order] = place >= np.repeat(kept, counts)
    return _window(interactions, ~later, later, None)


def make_windows(
    interactions: Interactions, split: Split, clock: Clock | None, seed: int
) -> Windows:
    """`auto`: in time where there are timestamps and the windows hold anything, else per user. None
    where nothing is left after a part is held out."""
    if split != "user" and clock is not None:
        found = time_windows(interactions, clock)
        busy = [window for window in found if window.met.nnz]
        if busy or split == "time":
            return Windows(busy, found if busy else [])
    choice, calibration = (
        user_window(interactions, seed, by_chance=by_chance) for by_chance in (False, True)
    )
    return Windows(*([window] if window.met.nnz else [] for window in (choice, calibration)))


def _window(known_and_later: Interactions, known: Mask, later: Mask, clock: Clock | None) -> Window:
    before = known_and_later.take(known)
    after = known_and_later.take(later & (known_and_later.weights > 0))
    shape = (len(before.user_ids), len(before.item_ids))
    users = np.bincount(before.users, minlength=shape[0]) > 0
    items = np.bincount(before.items, minlength=shape[1]) > 0
    there = users[after.users], items[after.items]
    met = _pairs(after, there[0] & there[1], shape)
    again = met.multiply(before.seen)
    fresh: Matrix = (met - again).tocsr()
    fresh.eliminate_zeros()
    by_new = _pairs(after, ~there[0] & there[1], shape)
    new_by = _pairs(after, there[0] & ~there[1], shape)
    return Window(before, fresh, clock, by_new, new_by)


def _pairs(after: Interactions, kept: Mask, shape: tuple[int, int]) -> Matrix:
    ones: Floats = np.ones(int(kept.sum()), np.float32)
    found = sparse(ones, after.users[kept], after.items[kept], shape)
    found.data[:] = 1.0
    return found
