"""From scores to pages: order, spread and pages, against a plain greedy choice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.candidate import choosing
from services.candidate.choosing import Spread, choose
from services.candidate.expressions import build_columns, typed_value
from services.candidate.expressions.schema import AttributeType, Schema
from services.candidate.questions import Place
from services.candidate.sources.arrays import Floats

LOWEST = -np.inf


def spread(groups: list[Any], strength: float, kind: AttributeType) -> Spread:
    schema = Schema({"group": kind})
    rows = [{} if group is None else {"group": typed_value(group)} for group in groups]
    return Spread(build_columns(rows, schema), "group", strength)


def greedy(scores: Floats, groups: list[Any], strength: float) -> list[int]:
    """Takes what has the best discounted score each time, the first row of equal ones."""
    left = [row for row in range(len(scores)) if scores[row] > LOWEST]
    taken: list[int] = []
    while left:
        discounted = [
            np.float32(
                scores[row]
                * (1.0 - strength) ** sum(groups[other] == groups[row] for other in taken)
            )
            for row in left
        ]
        taken.append(left.pop(int(np.argmax(discounted))))
    return taken


scores_and_groups = st.lists(
    st.tuples(
        st.sampled_from([LOWEST, 0.0, 0.125, 0.25, 0.5, 0.75, 0.9, 1.0]),
        st.sampled_from([None, "a", "b", "c"]),
    ),
    max_size=40,
)


@given(scores_and_groups, st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(1, 45))
def test_a_spread_is_the_greedy_choice(
    rows: list[tuple[float, str | None]], strength: float, count: int
) -> None:
    scores = np.array([score for score, _ in rows], np.float32)
    groups = [group for _, group in rows]
    wanted = greedy(scores, groups, strength)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choosing, "FIRST_POOL", 2)  # so that the pool has to grow
        patch.setattr(choosing, "POOL_GROWTH", 2)
        ids = [f"{row:03}" for row in range(len(rows))]
        chosen = choose(scores, ids, count, spread=spread(groups, strength, AttributeType.STRING))
    assert chosen.rows.tolist() == wanted[:count]
    assert chosen.more == (len(wanted) > count)
    assert np.all(np.diff(chosen.scores) <= 0)


@given(scores_and_groups, st.sampled_from([None, 0.5, 1.0]), st.integers(1, 7))
def test_pages_are_the_whole(
    rows: list[tuple[float, str | None]], strength: float | None, count: int
) -> None:
    scores = np.array([score for score, _ in rows], np.float32)
    ids = [f"{row:03}" for row in range(len(rows))]
    how = (
        None
        if strength is None
        else spread([group for _, group in rows], strength, AttributeType.STRING)
    )
    whole = choose(scores, ids, 100, spread=how)
    found: list[int] = []
    after, more = None, True
    while more:
        page = choose(scores, ids, count, after=after, spread=how)
        found += page.rows.tolist()
        more = page.more
        if more:
            after = Place(float(page.scores[-1]), ids[page.rows[-1]])
    assert found == whole.rows.tolist()


@pytest.mark.parametrize(
    ("groups", "kind"),
    [
        (["a", "a", None, None, "b"], AttributeType.STRING),
        ([7, 7, None, None, 0], AttributeType.INT),
        ([True, True, None, None, False], AttributeType.BOOL),
        ([0, 0, 1, 1, 2], AttributeType.INT),
    ],
)
def test_groups_are_values_and_one_for_those_without(
    groups: list[Any], kind: AttributeType
) -> None:
    found = spread(groups, 0.5, kind).groups(np.arange(5))
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert len(set(found.tolist())) == 3
