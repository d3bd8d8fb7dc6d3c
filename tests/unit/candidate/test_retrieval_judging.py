"""Filter and booster in exact search: against all rows judged by themselves, and their bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from services.candidate import retrieval
from services.candidate.bounds import greatest_factor
from services.candidate.expressions import (
    build_columns,
    compile_booster,
    compile_filter,
    typed_value,
)
from services.candidate.expressions.numbers import GREATEST_FACTOR
from services.candidate.judging import Judge
from services.candidate.questions import BudgetUse
from services.candidate.retrieval import Float32, top
from services.candidate.retrieval_judging import SearchJudge, least_score
from services.candidate.sources.arrays import Floats
from tests.unit.candidate.people import BOOSTERS, FILTERS, NOW, SCHEMA, people


def coarse(count: int, seed: int) -> Floats:
    """Scores of −2 to 2 only, so that most are equal to others."""
    return np.random.default_rng(seed).integers(-1, 2, (count, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "BLOCK", 16)
    monkeypatch.setattr(retrieval, "JUDGED_AT_ONCE", 40)
    monkeypatch.setattr(retrieval, "JUDGED_FIRST", 2)


@settings(deadline=None)
@given(
    st.integers(1, 200),
    st.integers(1, 30),
    st.integers(0, 1000),
    st.sampled_from(BOOSTERS),
    st.sampled_from(FILTERS),
    st.sampled_from((0.0, 1.0)),
)
def test_it_finds_what_judging_all_rows_finds(
    rows: int, count: int, seed: int, booster: str, condition: str, least: float
) -> None:
    columns, vectors = people(rows, seed), coarse(rows, seed)
    matches, boosts = compile_filter(condition, SCHEMA), compile_booster(booster, SCHEMA)
    judge = Judge(columns, NOW, least, matches, boosts, None, None, BudgetUse.OFF)
    scores = vectors @ np.ones(2, np.float32)
    kept = matches.evaluate(columns, NOW).matches & (scores >= least)
    values = (scores * boosts.evaluate(columns, NOW).factors).astype(np.float32)
    wanted = np.flatnonzero(kept)
    wanted = wanted[np.lexsort((wanted, -values[wanted]))][:count]
    as_it_is = SearchJudge(judge, relevance=lambda scores: scores)
    found = top(Float32(vectors), np.ones(2, np.float32), count, judge=as_it_is)
    np.testing.assert_array_equal(found.rows, wanted)
    np.testing.assert_array_equal(found.values, values[wanted])


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 1000), st.sampled_from(BOOSTERS))
def test_no_factor_is_above_the_bound(rows: int, seed: int, text: str) -> None:
    columns, booster = people(rows, seed), compile_booster(text, SCHEMA)
    assert booster.evaluate(columns, NOW).factors.max() <= greatest_factor(booster, columns)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        (BOOSTERS[0], 1.0),
        (BOOSTERS[1], 1.0),  # an error would count 1
        (BOOSTERS[2], 5.0),
        (BOOSTERS[3], 2.0),
        (BOOSTERS[4], 2.25),
        (BOOSTERS[5], 2.0),
        (BOOSTERS[6], 3.0),
        (BOOSTERS[7], 2.0),
        (BOOSTERS[8], GREATEST_FACTOR),  # visits may be 0
        (BOOSTERS[9], GREATEST_FACTOR),  # the remainder has no bound of its own here
        (BOOSTERS[10], 3.0),
        ("1e300", GREATEST_FACTOR),
    ],
)
def test_bounds_follow_from_constants_and_the_columns(text: str, bound: float) -> None:
    assert greatest_factor(compile_booster(text, SCHEMA), people(300, 1)) == bound


def test_nan_has_no_bound_of_its_own() -> None:
    users = [{"spent": typed_value(2.0)}, {"spent": typed_value(float("nan"))}]
    columns = build_columns(users, SCHEMA)
    assert greatest_factor(compile_booster("user.spent", SCHEMA), columns) == GREATEST_FACTOR


@settings(max_examples=50)
@given(
    st.floats(-10, 10, width=32),
    st.floats(-20, 20),
    st.floats(1e-3, 2),
    st.floats(1e-9, 1.1),
)
def test_the_least_score_is_where_enough_begins(
    score: float, level: float, slope: float, wanted: float
) -> None:
    def relevance(scores: Floats) -> Floats:
        found: Floats = expit(slope * scores.astype(np.float64) + level).astype(np.float32)
        return found

    one = np.array([score], np.float32)
    for asked in (wanted, float(relevance(one)[0])):
        least = np.array([least_score(relevance, asked)], np.float32)
        enough = np.float32(asked)
        if np.isinf(least[0]):
            assert relevance(np.array([1e30], np.float32))[0] < enough
            continue
        assert relevance(least)[0] >= enough
        assert relevance(np.nextafter(least, np.float32(-1e38)))[0] < enough
