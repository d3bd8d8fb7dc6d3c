"""Merged answers of shards are the answer of one index."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.candidate.choosing import Spread, choose
from services.candidate.expressions import AttributeType, Columns
from services.candidate.expressions.columns import PlainColumn
from services.candidate.merging import estimated, merged, spread_out
from services.candidate.orders import shard_of
from services.candidate.questions import (
    Audience,
    BudgetSeen,
    BudgetUse,
    Choice,
    Direction,
    Diversity,
    Found,
    Omission,
    Page,
    Place,
    Rotation,
    Subject,
)
from services.candidate.shards.conversion import (
    read_answer,
    read_choice,
    read_page,
    write_answer,
    write_choice,
    write_page,
)
from services.candidate.sources.arrays import Floats
from services.runtime.validation import violations

SUBJECT = Subject(Direction.USERS_TO_ITEM, "item")
NOW = datetime(2026, 1, 5, tzinfo=UTC)
WEEK = timedelta(days=7)
# Few values, so that equal scores abound; −inf is left out.
VALUES = st.sampled_from([-np.inf, 0.0, 0.1, 0.25, 0.3, 0.7])
SCORES = st.lists(VALUES, min_size=1, max_size=60)
MANY = st.lists(VALUES, min_size=25, max_size=60)


def _audience(ids: list[str], scores: Floats, more: bool, **fields: Any) -> Audience:
    return Audience(
        subject=SUBJECT,
        ids=ids,
        scores=scores.tolist(),
        relevance=scores.tolist(),
        counts=[int(name[1:]) for name in ids],
        warm=True,
        subject_count=3,
        more=more,
        **fields,
    )


class World:
    """Users with scores and groups, whole and by shard."""

    def __init__(self, scores: list[float], shards: int, groups: int) -> None:
        self.ids = [f"u{number:03}" for number in range(len(scores))]
        self.scores = np.array(scores, np.float32)
        self.groups = np.arange(len(scores)) % groups
        self.shards = [
            np.array([r for r, u in enumerate(self.ids) if shard_of(u, shards) == shard], np.int64)
            for shard in range(shards)
        ]

    def parts(self, count: int, after: Place | None) -> list[Found]:
        """What each shard answers, by way of the protos."""
        found = []
        for rows in self.shards:
            ids = [self.ids[row] for row in rows]
            chosen = choose(self.scores[rows], ids, count, after=after)
            groups = [f"={self.groups[rows[row]]}" for row in chosen.rows]
            omitted = int(np.isneginf(self.scores[rows]).sum())
            audience = _audience(
                [ids[row] for row in chosen.rows],
                chosen.scores,
                chosen.more,
                omissions={Omission.FILTER: omitted} if omitted else {},
                horizon=WEEK,
            )
            found.append(read_answer(write_answer(Found(audience, groups)), SUBJECT))
        return found

    def spread(self, strength: float) -> Spread:
        columns = {"g": PlainColumn(self.groups, None)}
        return Spread(Columns(len(self.ids), {"g": AttributeType.INT}, columns, {}), "g", strength)


@given(SCORES, st.integers(1, 5), st.integers(1, 20), st.integers(0, 59), st.booleans())
def test_a_page_is_that_of_one_index(
    scores: list[float], shards: int, count: int, place: int, later: bool
) -> None:
    world = World(scores, shards, 3)
    row = place % len(scores)
    after = Place(float(world.scores[row]), world.ids[row]) if later else None
    expected = choose(world.scores, world.ids, count, after=after)
    found = merged(world.parts(count, after), count)
    assert found.ids == [world.ids[row] for row in expected.rows]
    assert found.scores == expected.scores.tolist()
    assert found.more == expected.more
    assert found.horizon == WEEK
    assert sum(found.omissions.values()) == int(np.isneginf(world.scores).sum())


@given(
    MANY,
    st.integers(1, 4),
    st.integers(1, 12),
    st.sampled_from([0.2, 0.5, 1.0]),
    st.integers(1, 5),
    st.integers(0, 59),
    st.booleans(),
)
def test_a_spread_page_is_that_of_one_index(
    scores: list[float],
    shards: int,
    count: int,
    strength: float,
    groups: int,
    place: int,
    later: bool,
) -> None:
    world = World(scores, shards, groups)
    spread = world.spread(strength)
    after = None
    if later:
        first = choose(world.scores, world.ids, 1 + place % 10, spread=spread)
        if len(first.rows):
            after = Place(float(first.scores[-1]), world.ids[first.rows[-1]])
    expected = choose(world.scores, world.ids, count, after=after, spread=spread)
    size, found = 2, None
    while found is None:
        page = Page("r", NOW, 0, after)
        parts = world.parts(size, None)
        found = spread_out(parts, size, count, page, Diversity("g", strength))
        size *= 2
    assert found.ids == [world.ids[row] for row in expected.rows]
    np.testing.assert_array_equal(np.array(found.scores, np.float32), expected.scores)
    assert found.more == expected.more


@settings(max_examples=30)
@given(SCORES, st.integers(1, 5))
def test_an_estimate_is_over_the_users_of_all_shards(scores: list[float], shards: int) -> None:
    world = World(scores, shards, 1)
    parts = []
    for rows in world.shards:
        left = world.scores[rows]
        facts = _audience([], left[:0], False, horizon=WEEK)
        parts.append((facts, left[~np.isneginf(left)]))
    whole = world.scores[~np.isneginf(world.scores)]
    found = estimated(parts)
    assert found.user_count == len(whole) == sum(found.histogram)
    assert found.horizon == WEEK
    if len(whole):
        assert found.deciles == np.quantile(whole, np.arange(1, 10) / 10).tolist()


def test_budgets_are_as_old_as_the_oldest_and_unknown_when_one_is() -> None:
    young, old = BudgetSeen(timedelta(seconds=1)), BudgetSeen(timedelta(seconds=9))
    none = np.zeros(0, np.float32)

    def budget(*seen: BudgetSeen | None) -> BudgetSeen | None:
        return merged([Found(_audience([], none, False, budget=each)) for each in seen], 1).budget

    assert budget(young, old) == old
    assert budget(young, BudgetSeen(None)) == BudgetSeen(None)
    assert budget(None, None) is None


SPANS = st.integers(0, 10**9).map(lambda number: timedelta(microseconds=number))
SHARES = st.floats(0, 1)
TEXTS = st.text(max_size=20)
CHOICES = st.builds(
    Choice,
    count=st.integers(1, 10**6),
    min_relevance=SHARES,
    include_interacted=st.booleans(),
    filter=TEXTS | st.just("true || " * 500 + "true"),
    booster=TEXTS,
    rotation=st.none() | st.builds(Rotation, st.floats(0, 1, exclude_min=True), SPANS),
    diversity=st.none() | st.builds(Diversity, st.text(min_size=1, max_size=9), SHARES),
    budget=st.sampled_from(BudgetUse),
    scenario=TEXTS,
    from_scenario=st.frozensets(TEXTS, max_size=3),
)
PAGES = st.builds(
    Page,
    TEXTS,
    st.integers(0, 10**15).map(lambda number: NOW + timedelta(microseconds=number)),
    st.integers(0, 2**31 - 1),
    st.none() | st.builds(Place, st.floats(0, 1, width=32), TEXTS),
)


@settings(max_examples=30)
@given(CHOICES, PAGES)
def test_questions_are_the_same_on_the_other_side(choice: Choice, page: Page) -> None:
    written = write_choice(choice)
    assert violations(written) == []  # also of more than a client may ask for
    assert read_choice(written) == choice
    assert read_page(write_page(page)) == page
