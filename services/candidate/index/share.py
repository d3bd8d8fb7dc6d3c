"""Which of the users an index holds: all, or a shard of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.candidate.orders import shard_of
from services.candidate.sources.arrays import Mask, Rows


@dataclass(frozen=True, slots=True)
class Share:
    """The users of one shard, by the hash of their ids."""

    shard: int = 0
    count: int = 1

    @property
    def is_all(self) -> bool:
        """Whether there is but one."""
        return self.count == 1

    def mask(self, user_ids: Sequence[str]) -> Mask:
        """Which of the users it has."""
        if self.is_all:
            return np.ones(len(user_ids), np.bool_)
        found = (shard_of(name, self.count) == self.shard for name in user_ids)
        return np.fromiter(found, np.bool_, len(user_ids))

    def rows(self, user_ids: Sequence[str]) -> Rows:
        """Positions of the users that it has."""
        return np.flatnonzero(self.mask(user_ids))


ALL = Share()
