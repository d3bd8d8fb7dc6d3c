"""Whom users follow, who their friends are, and who makes the items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from services.candidate.sources.arrays import NONE, Floats, Matrix, Rows, sparse
from services.candidate.sources.catalogue import Catalogue

Ties = tuple[Sequence[str], Sequence[str], Sequence[float] | npt.NDArray[np.floating]]
"""Users, targets and strengths in (0, 1], aligned."""
NO_TIES: Ties = ((), (), ())


@dataclass(frozen=True, eq=False, slots=True)
class Relations:
    """Social ties at one moment. Actors are all whom a tie or an item names: the catalogue's users
    in their order, then followed creators who are no users."""

    actor_ids: Sequence[str]
    follows: Matrix
    """Users × actors: how strongly a user follows, in (0, 1]."""
    friends: Matrix
    """Users × actors (which are all users), symmetric: how close two are, in (0, 1]."""
    item_creators: Rows
    """The actor who made each item; NONE where nobody is named whom anyone follows."""

    @classmethod
    def build(
        cls,
        catalogue: Catalogue,
        follows: Ties = NO_TIES,
        friends: Ties = NO_TIES,
        creators: Sequence[str] = (),
    ) -> Self:
        """Build from ties by id, and the creator of each item ("" for none; empty: of no item).

        A friendship is given once. Of a tie whose user isn't in the catalogue nothing is kept.
        """
        users = catalogue.user_rows
        others = dict.fromkeys(target for target in follows[1] if target not in users)
        actors = dict(users) | {name: len(users) + place for place, name in enumerate(others)}
        shape = (len(users), len(actors))
        follower, followed, strength = _rows(users, actors, follows)
        one, other, closeness = _rows(users, users, friends)
        return cls(
            actor_ids=[*catalogue.user_ids, *others],
            follows=sparse(strength, follower, followed, shape),
            friends=sparse(
                np.concatenate((closeness, closeness)),
                np.concatenate((one, other)),
                np.concatenate((other, one)),
                shape,
            ),
            item_creators=np.array(
                [actors.get(name, NONE) for name in creators or [""] * len(catalogue.item_ids)],
                np.int64,
            ),
        )


def _rows(
    users: Mapping[str, int], targets: Mapping[str, int], ties: Ties
) -> tuple[Rows, Rows, Floats]:
    known = [
        (users[user], targets[target], strength)
        for user, target, strength in zip(*ties, strict=True)
        if user in users and target in targets
    ]
    table = np.array(known, np.float64).reshape(-1, 3)
    return (
        table[:, 0].astype(np.int64),
        table[:, 1].astype(np.int64),
        table[:, 2].astype(np.float32),
    )
