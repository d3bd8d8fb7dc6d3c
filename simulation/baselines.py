"""What two simple senders would have reached on the same users and slots.

Both send when the system sent, to the same user, and choose only the item, among those not in the
user's history. The truth is known, so nothing is estimated from a log.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulation.world import LIKED_STARS, World


@dataclass(frozen=True, slots=True)
class Baselines:
    """Per user (by position): chance of an open for a random item, and the popular items' answers.

    `random` is [users]. `popular` is [users, items]: 1 where the n-th most popular unseen item is
    one that the user likes; 0 past the user's unseen items.
    """

    random: npt.NDArray[np.float64]
    popular: npt.NDArray[np.bool_]

    def random_rate(self, users: Sequence[int]) -> float:
        """Expected share of opens when each of these sends (one user each) had a random item.

        Drawing without repetition gives each draw the same chance, so this is exact.
        """
        return float(self.random[np.asarray(users, np.int64)].mean()) if len(users) else 0.0

    def popular_opens(self, sends: Sequence[tuple[int, int]]) -> list[bool]:
        """Whether each send would be opened; a send is (user, how many the user got before)."""
        last = self.popular.shape[1] - 1
        return [bool(self.popular[user, min(earlier, last)]) for user, earlier in sends]


def baselines(world: World) -> Baselines:
    """Both baselines of a world. Popular: most history ratings of 4 stars or more first."""
    liked = world.liked
    unseen = (~world.seen).sum(axis=1)
    random = np.divide(liked.sum(axis=1), unseen, out=np.zeros(len(unseen)), where=unseen > 0)
    likes = world.history.item[world.history.stars >= LIKED_STARS]
    counts = np.bincount(likes, minlength=len(world.data.items))
    by_count = np.argsort(-counts, kind="stable")
    popular = np.zeros_like(liked)
    for user in range(len(world.data.users)):
        ranked = by_count[~world.seen[user, by_count]]
        popular[user, : len(ranked)] = liked[user, ranked]
    return Baselines(random, popular)
