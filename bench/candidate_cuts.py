"""Weekly cuts in time, for bench.candidate_quality: what is known, and what is to be found."""

from collections.abc import Sequence

import numpy as np

from services.candidate.models import Interactions
from services.candidate.models.context import Clock
from services.candidate.models.windows import Window, split_at

WEEK = 7 * 86400.0
LEAST_WEEKS = 9
MOST_TUNING = 4


def weekly(everything: Interactions, cut: int) -> Window:
    """What is known at the cut, and what known users first met in the week after it. `cut`: weeks
    after the first interaction."""
    times = everything.times
    assert times is not None
    return split_at(everything, Clock(float(times.min()) + cut * WEEK, WEEK))


def weekly_of_known(everything: Interactions, cut: int) -> Window:
    """The same, without the ids that nobody interacted with before: of a set that grows, most."""
    times = everything.times
    assert times is not None
    known = times < times.min() + cut * WEEK
    users, items = (np.unique(rows[known]) for rows in (everything.users, everything.items))
    kept = np.isin(everything.users, users) & np.isin(everything.items, items)
    old = everything.take(kept)
    return weekly(
        Interactions(
            [everything.user_ids[row] for row in users],
            [everything.item_ids[row] for row in items],
            np.searchsorted(users, old.users),
            np.searchsorted(items, old.items),
            old.times,
            old.weights,
        ),
        cut,
    )


def thirds(everything: Interactions) -> tuple[Sequence[int], Sequence[int]]:
    """Cuts by which rivals are tuned, and those of the test. The first third of the whole weeks is
    only known; of the second, but for its last week, up to four weeks are for tuning; the last is
    the test. Raises ValueError where there are no times, or fewer than nine weeks."""
    times = everything.times
    weeks = 0 if times is None else int((times.max() - times.min()) / WEEK)
    if weeks < LEAST_WEEKS:
        raise ValueError(f"needs timestamps over {LEAST_WEEKS} weeks or more, not {weeks}")
    first, second = weeks // 3, 2 * weeks // 3
    return range(max(first, second - 1 - MOST_TUNING), second - 1), range(second, weeks)
