"""Exact search against brute force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.candidate import retrieval
from services.candidate.retrieval import Best, Float16, Float32, Int8, Table, top, top_of_each
from services.candidate.sources.arrays import Floats, Rows

DIMENSIONS = 8


@dataclass(frozen=True, eq=False)
class Boosted:
    """Leaves rows out and multiplies the score's logistic by a factor."""

    keep: npt.NDArray[np.bool_]
    factors: Floats

    def values(self, rows: Rows, scores: Floats) -> Floats:
        relevance = 1.0 / (1.0 + np.exp(-scores.astype(np.float64)))
        worth = (relevance * self.factors[rows]).astype(np.float32)
        return np.where(self.keep[rows], worth, np.float32(-np.inf))

    def least_score(self, value: float) -> float:
        share = value / max(float(self.factors.max(initial=0.0)), 1e-30)
        if share <= 0:
            return -np.inf
        # A hair lower, for the rounding of values.
        return float(np.log(share / (1 - share)) - 1e-3) if share < 1 else np.inf


def table(count: int, seed: int, *, coarse: bool) -> Floats:
    """Random vectors; coarse ones have many equal scores."""
    random = np.random.default_rng(seed)
    if coarse:
        return random.integers(-1, 2, (count, DIMENSIONS)).astype(np.float32)
    return random.standard_normal((count, DIMENSIONS), dtype=np.float32)


def expected(values: Floats, count: int) -> Best:
    rows = np.flatnonzero(~np.isneginf(values))
    order = rows[np.lexsort((rows, -values[rows]))][:count]
    return Best(order, values[order], values[order])


def same(found: Best, wanted: Best) -> None:
    np.testing.assert_array_equal(found.rows, wanted.rows)
    np.testing.assert_allclose(found.values, wanted.values, rtol=1e-6)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "BLOCK", 16)
    monkeypatch.setattr(retrieval, "JUDGED_AT_ONCE", 32)
    monkeypatch.setattr(retrieval, "JUDGED_FIRST", 3)
    monkeypatch.setattr(retrieval, "WIDENED", 64)


@settings(deadline=None)
@given(st.integers(0, 150), st.integers(1, 40), st.integers(0, 1000))
def test_equal_scores_included_it_is_what_sorting_finds(rows: int, count: int, seed: int) -> None:
    vectors = table(rows, seed, coarse=True)  # small whole numbers: sums are exact in any order
    query = np.arange(DIMENSIONS, dtype=np.float32) - 3
    bias = np.arange(rows, dtype=np.float32) % 3
    scores = vectors @ query + bias
    same(top(Float32(vectors), query, count, bias=bias), expected(scores, count))
    found = top_of_each(Float32(vectors), np.stack([query, -query]), count, bias=bias)
    same(found[0], expected(scores, count))
    same(found[1], expected(bias - vectors @ query, count))


@settings(deadline=None)
@given(st.integers(1, 150), st.integers(1, 40), st.integers(0, 1000), st.floats(0, 1))
def test_filter_and_booster_change_what_is_best(
    rows: int, count: int, seed: int, share: float
) -> None:
    random = np.random.default_rng(seed)
    vectors = table(rows, seed, coarse=True)
    query = np.ones(DIMENSIONS, np.float32)
    judge = Boosted(random.random(rows) < share, random.choice([0.5, 1.0, 3.0], rows))
    values = judge.values(np.arange(rows), vectors @ query)
    same(top(Float32(vectors), query, count, judge=judge), expected(values, count))
    found = top_of_each(Float32(vectors), query[None], count, judges=[judge])
    same(found[0], expected(values, count))


def test_a_filter_is_asked_about_few_rows_only() -> None:
    """Of 10,000 rows in blocks of 16, those that can still be among the best 5."""
    asked: list[int] = []

    class Counting(Boosted):
        def values(self, rows: Rows, scores: Floats) -> Floats:
            asked.append(len(rows))
            return super().values(rows, scores)

    vectors = table(10_000, 1, coarse=False)
    judge = Counting(np.ones(10_000, bool), np.ones(10_000, np.float32))
    top(Float32(vectors), np.ones(DIMENSIONS, np.float32), 5, judge=judge)
    assert sum(asked) < 300


@pytest.mark.parametrize(("form", "least"), [(Float16.of, 0.98), (Int8.of, 0.9)])
def test_narrow_forms_find_nearly_the_same(form: Callable[[Floats], Table], least: float) -> None:
    vectors = table(5000, 3, coarse=False)
    query = table(1, 4, coarse=False)[0]
    exact = set(top(Float32(vectors), query, 50).rows.tolist())
    narrow = set(top(form(vectors), query, 50).rows.tolist())
    assert len(exact & narrow) >= least * 50


@settings(deadline=None)
@given(st.integers(-9, 9), st.integers(0, 100))
def test_scores_of_float16_are_those_of_the_widened_vectors(exponent: int, seed: int) -> None:
    """Greatest, least and subnormal values included, whatever the size of the query's."""
    random = np.random.default_rng(seed)
    vectors = random.integers(0, 2**16, (50, DIMENSIONS)).astype(np.uint16).view(np.float16)
    vectors = np.where(np.isfinite(vectors), vectors, np.float16(0))
    query = np.ldexp(random.standard_normal(DIMENSIONS), 10 * exponent).astype(np.float32)
    wide = vectors.astype(np.float64)
    rounding = np.abs(wide) @ np.abs(query.astype(np.float64)) * 2.0**-20
    found = Float16(vectors).scores(query, 3, 50)
    assert (np.abs(found - (wide @ query)[3:]) <= rounding[3:]).all()
    many = Float16(vectors).scores(np.stack([query, -query]), 3, 50)
    np.testing.assert_allclose(many, np.stack([found, -found]), atol=float(rounding.max()))


def test_float16_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match="65,504"):
        Float16.of(np.full((1, DIMENSIONS), 1e6, np.float32))


def test_zero_vectors_survive_int8() -> None:
    vectors = np.zeros((3, DIMENSIONS), np.float32)
    assert top(Int8.of(vectors), np.ones(DIMENSIONS, np.float32), 2).values.tolist() == [0.0, 0.0]


def test_what_does_not_fit_is_refused() -> None:
    rows = Float32(np.ones((4, DIMENSIONS), np.float32))
    with pytest.raises(ValueError, match="8 dimensions"):
        top(rows, np.ones(7, np.float32), 3)
    with pytest.raises(ValueError, match="not finite"):
        top(rows, np.full(DIMENSIONS, np.nan, np.float32), 3)
    with pytest.raises(ValueError, match="biases"):
        top(rows, np.ones(DIMENSIONS, np.float32), 3, bias=np.ones(3, np.float32))
    with pytest.raises(ValueError, match="judges"):
        top_of_each(
            rows,
            np.ones((2, DIMENSIONS), np.float32),
            3,
            judges=[Boosted(np.ones(4, bool), np.ones(4, np.float32))],
        )
    with pytest.raises(ValueError, match="count"):
        top(rows, np.ones(DIMENSIONS, np.float32), 0)
