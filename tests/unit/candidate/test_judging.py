"""Factors and omissions: rotation, budgets, exposure, scenarios. Formulas against plain ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from heliograph.candidate.v1alpha1 import recommending_pb2, scenarios_pb2
from hypothesis import given
from hypothesis import strategies as st

from services.candidate.budget_columns import BudgetColumns
from services.candidate.exposure import gini
from services.candidate.expressions import (
    AttributeType,
    Schema,
    build_columns,
    compile_booster,
    compile_filter,
)
from services.candidate.judging import Judge
from services.candidate.questions import BudgetUse, Direction, Omission, Rotation
from services.candidate.rotation import Recent
from services.candidate.scenarios import BUILT_IN, apply

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
LOWEST = -np.inf


def budgets() -> BudgetColumns:
    """a: all open, b: no channel, c: at the cap, d: a full pool, e: half of everything."""
    return BudgetColumns(
        user_ids=["a", "b", "c", "d", "e"],
        channels=np.array([3, 0, 1, 1, 1], np.uint8),
        remaining=np.array([3, 3, 0, 3, 1], np.uint8),
        caps=np.full(5, 3, np.uint8),
        waiting=np.array([0, 0, 0, 9, 5], np.uint16),
        pool_size=9,
        read_time=NOW,
    )


def judge(use: BudgetUse = BudgetUse.OFF, recent: Recent | None = None) -> Judge:
    return Judge(
        columns=build_columns([{}] * 5, Schema({})),
        moment=NOW,
        min_relevance=0.25,
        filter=None,
        booster=None,
        recent=recent,
        budgets=None if use is BudgetUse.OFF else budgets(),
        budget_use=use,
    )


def test_exclusion_leaves_out_by_the_first_reason() -> None:
    relevance = np.array([1, 0.5, 0.5, 0.5, 0.5], np.float32)
    judged = judge(BudgetUse.EXCLUDE).judge(np.arange(5), relevance)
    assert judged.scores.tolist() == [1, LOWEST, LOWEST, LOWEST, 0.5]
    assert judged.omissions == {Omission.NO_CHANNEL: 1, Omission.CAP: 1, Omission.POOL_FULL: 1}


def test_a_discount_keeps_everyone() -> None:
    relevance = np.ones(5, np.float32)
    judged = judge(BudgetUse.DISCOUNT).judge(np.arange(5), relevance)
    assert judged.scores.tolist() == pytest.approx([1, 0.5, 0.25, 0.1, 0.5 * 0.5])
    assert judged.omissions == {}
    assert relevance.tolist() == [1] * 5


def test_the_order_of_omissions() -> None:
    relevance = np.array([LOWEST, 0.1, 0.25, 0.5, 1], np.float32)
    schema = Schema({})
    strict = Judge(
        columns=build_columns([{}] * 5, schema),
        moment=NOW,
        min_relevance=0.25,
        filter=compile_filter("false", schema),
        booster=compile_booster("2", schema),
        recent=None,
        budgets=None,
        budget_use=BudgetUse.OFF,
    )
    assert strict.judge(np.arange(5), relevance).omissions == {
        Omission.INELIGIBLE: 1,
        Omission.MIN_RELEVANCE: 1,
        Omission.FILTER: 3,
    }


@pytest.mark.parametrize("text", ["1e300", "1.79e308", "9223372036854775807"])
def test_relevance_still_orders_under_the_greatest_booster(text: str) -> None:
    relevance = np.array([0.5, 0.25, 1e-6, 1, np.nextafter(np.float32(0.5), 1)], np.float32)
    boosted = replace(judge(), min_relevance=0.0, booster=compile_booster(text, Schema({})))
    scores = boosted.judge(np.arange(5), relevance).scores
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(relevance))


def test_budgets_move_to_a_later_catalogue() -> None:
    later = budgets().aligned(["b", "bb", "e"])
    assert later.channels.tolist() == [0, 0, 1]
    assert later.remaining.tolist() == [3, 0, 1]
    assert later.caps.tolist() == [3, 255, 3]
    assert later.waiting.tolist() == [0, 0, 5]
    assert (later.channels.dtype, later.waiting.dtype) == (np.uint8, np.uint16)
    nobody = budgets().aligned([])
    assert nobody.aligned(["x"]).channels.tolist() == [0]


def test_rotation_fades_and_leaves_the_left_out_alone() -> None:
    returned = {"a": NOW, "b": NOW - HOUR, "c": NOW - 3 * HOUR, "gone": NOW, "d": NOW}
    known = {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}
    recent = Recent.build(returned, known, Rotation(1.0, 2 * HOUR), NOW)
    relevance = np.array([0.5, 0.5, 0.5, LOWEST, 0.5], np.float32)
    scores = judge(recent=recent).judge(np.arange(5), relevance).scores
    assert scores.tolist() == pytest.approx([0, 0.25, 0.5, LOWEST, 0.5])


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_gini_is_the_mean_difference(sends: list[int]) -> None:
    values = np.array(sends)
    by_sends = {int(k): int((values == k).sum()) for k in set(sends) if k}
    total = values.sum()
    differences = np.abs(values[:, None] - values[None, :]).sum()
    wanted = differences / (2 * len(sends) * total) if total else 0.0
    assert gini(by_sends, len(sends)) == pytest.approx(wanted)


VALUES = {"special-offer": {"group": "g"}, "candidates-for-position": {"skill": "s"},
          "partners": {"value": "v"}}  # fmt: skip
SCHEMA_WORDS = {
    "group": "string", "last_active_time": "timestamp", "total_spend": "double",
    "skills": "list(string)", "completed_courses": "list(string)",
    "authored_works": "list(string)", "affiliation": "string", "level": "int",
    "friends": "list(string)", "interaction_count": "int",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_built_in_scenarios_can_be_used(name: str) -> None:
    """With the attributes that they name by default."""
    schema = Schema({word: AttributeType(kind) for word, kind in SCHEMA_WORDS.items()})
    scenario = BUILT_IN[name]
    given_ = recommending_pb2.RecommendationParameters(
        scenario=name, scenario_values=VALUES.get(name, {})
    )
    applied = apply(scenario, given_, Direction(scenario.direction), "subject-id").parameters
    assert scenario.description
    assert "$" not in applied.filter + applied.booster + applied.diversity_attribute
    if applied.filter:
        compile_filter(applied.filter, schema)
    if applied.booster:
        compile_booster(applied.booster, schema)


def test_what_is_given_wins_over_a_scenario() -> None:
    given_ = recommending_pb2.RecommendationParameters(
        scenario="reviewers-for-work", filter="", rotation_rate=0.0, count=3
    )
    applied = apply(BUILT_IN["reviewers-for-work"], given_, Direction.USERS_TO_ITEM, "w1")
    assert applied.parameters.HasField("filter")
    assert (applied.parameters.filter, applied.parameters.rotation_rate) == ("", 0.0)
    assert applied.parameters.diversity_attribute == "affiliation"
    assert applied.parameters.rotation_time.seconds == 30 * 86400
    assert applied.from_scenario == {"diversity_attribute"}


def test_partners_and_players_are_matched_both_ways() -> None:
    matched = {name for name, scenario in BUILT_IN.items() if scenario.reciprocal}
    assert matched == {"partners", "similar-players"}
    given_ = recommending_pb2.RecommendationParameters(scenario="similar-players")
    assert apply(BUILT_IN["similar-players"], given_, Direction.USERS_TO_USER, "u").reciprocal


def test_domain_values_are_those_of_the_protos() -> None:
    for reason in Omission:
        assert recommending_pb2.Omission.Value(f"OMISSION_{reason.name}") == reason
    assert len(recommending_pb2.Omission.values()) == len(Omission) + 1
    for direction in Direction:
        name = f"SCENARIO_DIRECTION_{direction.name}"
        assert scenarios_pb2.ScenarioDirection.Value(name) == direction
