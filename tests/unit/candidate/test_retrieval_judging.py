"""Filter and booster in exact search: against all rows judged by themselves, and their bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.candidate import retrieval
from services.candidate.bounds import greatest_factor
from services.candidate.expressions import (
    AttributeType,
    Columns,
    Schema,
    build_columns,
    compile_booster,
    compile_filter,
    typed_value,
)
from services.candidate.retrieval import Float32, top
from services.candidate.retrieval_judging import ExpressionJudge
from services.candidate.sources.arrays import Floats

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
SCHEMA = Schema(
    {
        "country": AttributeType.STRING,
        "visits": AttributeType.INT,
        "spent": AttributeType.DOUBLE,
        "seen": AttributeType.TIMESTAMP,
        "taste": AttributeType.NUMBER_MAP,
    }
)
BOOSTERS = (
    "1.0",
    "0.25",
    "user.visits",
    'user.country == "DE" ? 2.0 : user.visits > 3 ? 1.5 : 0.5',
    "1.0 + double(user.visits) / 4.0",
    "double(user.visits - 2) * -0.5 + 1.0",
    'has(user.taste) && "art" in user.taste ? user.taste["art"] * 3.0 : 1.0',
    "user.spent / 2.0",
    "10.0 / double(user.visits)",
    "double(user.visits % 3)",
    '{"DE": 3.0, "FR": 0.1}[user.country]',
)


def people(count: int, seed: int) -> Columns:
    """Users with few distinct values, so that values are often equal; some lack attributes."""
    random = np.random.default_rng(seed)

    def one() -> dict[str, object]:
        found = {
            "country": str(random.choice(["DE", "FR", "IT"])),
            "visits": int(random.integers(0, 6)),
            "spent": float(random.choice([0.0, 1.5, 4.0])),
            "seen": NOW - timedelta(days=int(random.integers(0, 9))),
            "taste": {"art": float(random.choice([0.5, 1.0]))},
        }
        return {name: value for name, value in found.items() if random.random() < 0.9}

    users = ({name: typed_value(value) for name, value in one().items()} for _ in range(count))  # type: ignore[arg-type]
    return build_columns(users, SCHEMA)


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
    st.sampled_from(("true", 'user.country == "DE" || user.visits > 2', "user.spent > 2.0")),
    st.sampled_from((0.0, 1.0)),
)
def test_it_finds_what_judging_all_rows_finds(
    rows: int, count: int, seed: int, booster: str, condition: str, least: float
) -> None:
    columns, vectors = people(rows, seed), coarse(rows, seed)
    judge = ExpressionJudge(
        columns,
        NOW,
        compile_filter(condition, SCHEMA),
        compile_booster(booster, SCHEMA),
        min_score=least,
    )
    assert judge.filter is not None
    assert judge.booster is not None
    scores = vectors @ np.ones(2, np.float32)
    kept = judge.filter.evaluate(columns, NOW).matches & (scores >= least)
    values = (scores * judge.booster.evaluate(columns, NOW).factors).astype(np.float32)
    wanted = np.flatnonzero(kept)
    wanted = wanted[np.lexsort((wanted, -values[wanted]))][:count]
    found = top(Float32(vectors), np.ones(2, np.float32), count, judge=judge)
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
        (BOOSTERS[8], inf),  # visits may be 0
        (BOOSTERS[9], inf),  # the remainder has no bound here
        (BOOSTERS[10], 3.0),
    ],
)
def test_bounds_follow_from_constants_and_the_columns(text: str, bound: float) -> None:
    assert greatest_factor(compile_booster(text, SCHEMA), people(300, 1)) == bound


def test_nan_has_no_bound() -> None:
    users = [{"spent": typed_value(2.0)}, {"spent": typed_value(float("nan"))}]
    columns = build_columns(users, SCHEMA)
    assert greatest_factor(compile_booster("user.spent", SCHEMA), columns) == inf


def test_a_negative_least_score_is_refused() -> None:
    with pytest.raises(ValueError, match="min_score"):
        ExpressionJudge(people(1, 1), NOW, min_score=-0.1)
