"""Which expressions of a scenario are refused when it is stored."""

from __future__ import annotations

import pytest
from heliograph.candidate.v1alpha1 import recommending_pb2, scenarios_pb2

from services.candidate.scenarios import BUILT_IN
from services.candidate.scenarios.applying import check
from services.runtime.errors import InvalidArgument


def scenario(text: str, field: str = "filter", default: str = "") -> scenarios_pb2.Scenario:
    return scenarios_pb2.Scenario(
        name="mine",
        direction=scenarios_pb2.SCENARIO_DIRECTION_USERS_TO_ITEM,
        parameters=recommending_pb2.RecommendationParameters(**{field: text}),
        placeholders=[
            scenarios_pb2.Placeholder(name="group", default_value=default),
            scenarios_pb2.Placeholder(name="least"),
        ],
    )


@pytest.mark.parametrize("field", ["filter", "booster"])
@pytest.mark.parametrize("text", ["user.(", "user.age >", "user.a == '${group}", "${least} +", " "])
def test_what_no_values_could_make_readable_is_refused(field: str, text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(scenario(text, field))
    assert caught.value.reason == "INVALID_SCENARIO"
    assert [found.path for found in caught.value.fields] == [f"scenario.parameters.{field}"]


def test_a_default_that_makes_it_unreadable_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        check(scenario("user.age > ${group}", default="3 +"))


@pytest.mark.parametrize(
    "text",
    [
        "user.nobody_has_this > 3 && has(user.that)",
        "user.group == '${group}' && user.age > ${least}.5",
        "user.age ${group} user.spent * ${least}",
        "user.${group} > ${least}",
        "user.id != '${subject}' && user.tags.exists(t, t == '${group}')",
        "${group}",
    ],
)
def test_placeholders_may_stand_anywhere(text: str) -> None:
    check(scenario(text))


def test_built_in_scenarios_can_be_read() -> None:
    for one in BUILT_IN.values():
        check(one)
