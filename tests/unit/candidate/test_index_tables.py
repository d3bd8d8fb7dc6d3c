"""What the user index makes of changes, against the same read anew, and against plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.candidate.expressions import Columns
from services.candidate.index.entities import Entities, Placement, merge_entities
from services.candidate.index.sorting import insertion_points
from services.candidate.index.tables import Tables, merge_interactions, no_interactions
from services.candidate.index.ties import NamedTies, Ties, merge_ties, no_ties
from services.candidate.models import Interactions
from services.candidate.sources import Catalogue
from services.candidate.sources.arrays import NONE, Matrix

NAMES = [f"u{number}" for number in range(8)]
STRANGERS = ["studio", "a label", "z"]
ITEMS = [f"i{number}" for number in range(4)]
Interaction = tuple[str, str, float]
Tie = tuple[str, str]


@dataclass
class World:
    """What is stored, and what a transaction changed of it."""

    users: set[str] = field(default_factory=set)
    items: set[str] = field(default_factory=set)
    interactions: dict[Interaction, float] = field(default_factory=dict)
    follows: dict[Tie, float] = field(default_factory=dict)
    friends: dict[Tie, float] = field(default_factory=dict)

    def change(self, random: Random) -> Change:
        """Erase some users, store others (some of them again), and let them do something."""
        before = set(self.users)
        erased = {name for name in sorted(self.users) if random.random() < 0.2}
        self.users -= erased
        for ties in (self.follows, self.friends):
            for tie in [tie for tie in ties if erased & {*tie}]:
                del ties[tie]
        ended = _ended(self.follows, random), _ended(self.friends, random)
        for done in [done for done in self.interactions if done[0] in erased]:
            del self.interactions[done]
        stored = set(random.sample(NAMES, k=random.randint(0, 3)))
        new = {name for name in stored if name in erased or name not in before}
        self.users |= stored
        self.items |= set(random.sample(ITEMS, k=random.randint(0, 1)))
        done = self._interact(random)
        return Change(stored, new, erased - stored, done, *ended, *self._relate(random))

    def _interact(self, random: Random) -> dict[Interaction, float]:
        found = {}
        for _ in range(random.randint(0, 5) if self.users and self.items else 0):
            done = (
                random.choice(sorted(self.users)),
                random.choice(sorted(self.items)),
                float(random.randint(0, 3)),
            )
            if done not in self.interactions:
                found[done] = random.choice([1.0, 0.1, -0.5])
        self.interactions |= found
        return found

    def _relate(self, random: Random) -> tuple[dict[Tie, float], dict[Tie, float]]:
        users, follows, friends = sorted(self.users), {}, {}
        for _ in range(random.randint(0, 4) if len(users) > 1 else 0):
            one, other = sorted(random.sample(users, k=2))
            friends[one, other] = random.choice([0.25, 0.5])
            target = random.choice([*STRANGERS, *NAMES])
            if target != one:
                follows[one, target] = random.choice([0.25, 1.0])
        self.follows |= follows
        self.friends |= friends
        return follows, friends


def _ended(ties: dict[Tie, float], random: Random) -> set[Tie]:
    """Some are removed; they may be stored again at once."""
    found = {tie for tie in sorted(ties) if random.random() < 0.2}
    for tie in found:
        del ties[tie]
    return found


@dataclass
class Change:
    """What the index reads of a change."""

    stored: set[str]
    new: set[str]
    gone: set[str]
    interactions: dict[Interaction, float]
    unfollowed: set[Tie]
    parted: set[Tie]
    follows: dict[Tie, float]
    friends: dict[Tie, float]


@dataclass
class Known:
    """What the index knows."""

    users: Entities
    items: Entities
    interactions: Interactions
    ties: Ties

    def after(self, change: Change, items: set[str]) -> Known:
        ids = sorted(change.stored)
        users, moved = merge_entities(
            self.users, ids, _nothing(len(ids)), new=change.new, gone=change.gone
        )
        added = sorted(items - set(self.items.ids))
        known, placed = merge_entities(self.items, added, _nothing(len(added)))
        newer = _interactions(change.interactions, users, known)
        return Known(
            users,
            known,
            merge_interactions(self.interactions, newer, moved, placed),
            merge_ties(
                self.ties,
                users,
                moved,
                _ties(
                    dict.fromkeys(change.unfollowed, 0.0), dict.fromkeys(change.parted, 0.0), users
                ),
                _ties(change.follows, change.friends, users),
            ),
        )


def _nothing(size: int) -> Columns:
    return Columns(size, {}, {}, {}, "user")


def _interactions(
    found: dict[Interaction, float], users: Entities, items: Entities
) -> Interactions:
    return Interactions(
        users.ids,
        items.ids,
        np.array([users.rows[user] for user, _, _ in found], np.int64),
        np.array([items.rows[item] for _, item, _ in found], np.int64),
        np.array([time for _, _, time in found], np.float64),
        np.array(list(found.values()), np.float32),
    )


def _ties(follows: dict[Tie, float], friends: dict[Tie, float], users: Entities) -> NamedTies:
    ties = [*follows, *friends]
    names = [users.rows.get(name, NONE) for tie in ties for name in tie]
    return NamedTies(
        np.array(names[::2], np.int64),
        np.array(names[1::2], np.int64),
        [target for _, target in ties if target not in users.rows],
        np.array([*follows.values(), *friends.values()], np.float32),
        np.arange(len(ties)) >= len(follows),
    )


def _empty() -> Known:
    users, items = Entities([], _nothing(0)), Entities([], _nothing(0))
    return Known(users, items, no_interactions([], []), no_ties())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_followed_tables_are_those_read_anew(seed: int) -> None:
    """The same to the bit, interactions in the same order, whatever the way there."""
    random, world, known = Random(seed), World(), _empty()
    for _ in range(8):
        known = known.after(world.change(random), world.items)
        everything = Change(
            stored=world.users,
            new=world.users,
            gone=set(),
            interactions=world.interactions,
            unfollowed=set(),
            parted=set(),
            follows=world.follows,
            friends=world.friends,
        )
        anew = _empty().after(everything, world.items)
        assert list(known.users.ids) == list(anew.users.ids) == sorted(world.users)
        for name in ("users", "items", "times", "weights"):
            found = getattr(known.interactions, name)
            np.testing.assert_array_equal(found, getattr(anew.interactions, name))
        first, second = _catalogue(known), _catalogue(anew)
        np.testing.assert_array_equal(first.weights.toarray(), second.weights.toarray())
        np.testing.assert_array_equal(first.latest, second.latest)
        assert _named(known, known.ties.follows) == world.follows
        assert _named(known, known.ties.friends) == world.friends | {
            (other, one): strength for (one, other), strength in world.friends.items()
        }
        assert known.ties.count == len(world.follows) + len(world.friends)


def _catalogue(known: Known) -> Catalogue:
    live = np.ones(len(known.items.ids), np.bool_)
    created = np.zeros(len(known.items.ids), "datetime64[us]")
    return Tables.of(known.interactions, created, live).catalogue()


def _named(known: Known, table: Matrix) -> dict[Tie, float]:
    actors = [*known.users.ids, *known.ties.strangers]
    assert table.shape == (len(known.users.ids), len(actors))
    assert all(
        (np.diff(table.indices[begin:end]) > 0).all()
        for begin, end in zip(table.indptr[:-1], table.indptr[1:], strict=True)
    )
    rows = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
    return {
        (actors[row], actors[column]): value
        for row, column, value in zip(rows, table.indices, table.data.tolist(), strict=True)
    }


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12)


@given(ROWS, ROWS)
def test_insertion_points_keep_the_order(
    known: list[tuple[int, int]], new: list[tuple[int, int]]
) -> None:
    known, new = sorted(known), sorted(new)
    points = insertion_points(
        _columns(known), _columns(new), np.zeros(len(new), np.int64), np.full(len(new), len(known))
    )
    assert points.tolist() == [sum(row < other for row in known) for other in new]


def _columns(rows: list[tuple[int, int]]) -> list[np.ndarray]:
    return [np.array([row[place] for row in rows], np.int64) for place in range(2)]


def test_nobody_moves_where_somebody_changes() -> None:
    known, _ = merge_entities(Entities([], _nothing(0)), ["a", "b"], _nothing(2), new={"a", "b"})
    _, changed = merge_entities(known, ["b"], _nothing(1))
    _, again = merge_entities(known, ["b"], _nothing(1), new={"b"})
    assert changed.unmoved
    assert not again.unmoved
    assert not Placement(np.arange(1), np.arange(1), 2).unmoved
