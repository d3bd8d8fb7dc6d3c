"""What filters and boosters mean, where the library's own evaluation isn't the measure."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.candidate.expressions import compile_booster, compile_filter
from services.candidate.expressions.numbers import GREATEST_FACTOR
from tests.unit.candidate.expressions.grammar import expressions
from tests.unit.candidate.expressions.reference import FAILED, reference
from tests.unit.candidate.expressions.users import NOW, SCHEMA, USERS, T, User, table

_ANNA = {
    "age": 40,
    "score": 0.5,
    "group": "loyal",
    "vip": True,
    "joined": NOW - timedelta(hours=1),
    "played": timedelta(minutes=90),
    "tags": ["a", "b"],
    "hours": {"action": 3.0},
    "break": timedelta(days=200_000),
}
_NOBODY: User = {}


def _matches(text: str, *users: User) -> tuple[list[bool], int]:
    found = compile_filter(text, SCHEMA).evaluate(table(users), NOW)
    return found.matches.tolist(), found.error_count


@settings(deadline=None)
@given(text=expressions((T.BOOL,), depth=3), users=USERS)
def test_a_filter_that_ends_in_an_error_does_not_match(text: str, users: list[User]) -> None:
    expected = reference(text, users)
    assert _matches(text, *users) == ([value is True for value in expected], expected.count(FAILED))


@settings(deadline=None)
@given(text=expressions((T.INT, T.DOUBLE), depth=3), users=USERS)
def test_a_booster_that_ends_in_an_error_is_one(text: str, users: list[User]) -> None:
    expected = reference(text, users)
    wrong = [not _is_factor(value) for value in expected]
    found = compile_booster(text, SCHEMA).evaluate(table(users), NOW)
    assert found.error_count == sum(wrong)
    assert found.factors.tolist() == [
        1.0 if failed else min(float(value), GREATEST_FACTOR)
        for value, failed in zip(expected, wrong, strict=True)
    ]


def _is_factor(value: Any) -> bool:
    return value != FAILED and bool(np.isfinite(value)) and value >= 0


@settings(deadline=None)
@given(users=USERS, data=st.data())
def test_a_subset_of_rows_is_answered_as_in_the_whole_table(
    users: list[User], data: st.DataObject
) -> None:
    index = data.draw(st.lists(st.integers(0, len(users) - 1), max_size=12))
    rows = np.array(index, np.int64)
    columns = table(users)
    for text in (
        "user.tags.exists(t, t == user.group || t in user.likes)",
        "user.tags[0] == 'a' && user.hours.all(k, user.hours[k] > user.score)",
        "has(user.vip) ? user.vip : user.hours.a > 1.0",
    ):
        compiled = compile_filter(text, SCHEMA)
        whole, part = compiled.evaluate(columns, NOW), compiled.evaluate(columns, NOW, rows)
        assert part.matches.tolist() == whole.matches[rows].tolist()


@pytest.mark.parametrize(
    ("text", "matches", "errors"),
    [
        ("user.age > 30", [True, False], 1),
        ("!(user.age > 30)", [False, False], 1),
        ("has(user.age)", [True, False], 0),
        ("!has(user.age)", [False, True], 0),
        ("has(user.tags) && 'a' in user.tags", [True, False], 0),
        ("has(user.hours.action)", [True, False], 1),
        ("has(user.hours.drama)", [False, False], 1),
        ("user.age > 30 || true", [True, True], 0),
        ("user.age > 30 || false", [True, False], 1),
        ("false && user.age > 30", [False, False], 0),
        ("has(user.age) ? user.age > 30 : true", [True, True], 0),
        ("user.vip ? true : true", [True, False], 1),
        ("[1, 0].exists(x, 1 / x > 0)", [True, True], 0),
        ("[1, 0].exists(x, 1 / x > 5)", [False, False], 2),
        ("[1, 0].all(x, 1 / x > 5)", [False, False], 0),
        ("[1, 0].exists_one(x, 1 / x > 0)", [False, False], 2),
        ("user.tags.exists(t, user.hours[t] > 0.0 || t == 'b')", [True, False], 1),
    ],
)
def test_errors_are_absorbed_as_cel_says(text: str, matches: list[bool], errors: int) -> None:
    assert _matches(text, _ANNA, _NOBODY) == (matches, errors)


@pytest.mark.parametrize(
    ("text", "factors", "errors"),
    [
        ('user.group == "loyal" ? 2.0 : 1.0', [2.0, 1.0], 1),
        ("user.age", [40.0, 1.0], 1),
        ("3", [3.0, 3.0], 0),
        ("-1.0", [1.0, 1.0], 2),
        ("user.score / 0.0", [1.0, 1.0], 2),
        ("0.0 / user.score - 1.0", [1.0, 1.0], 2),
        ("has(user.age) ? 0 : 5", [0.0, 5.0], 0),
        ("has(user.age) ? 1e300 : 1.79e308", [1e6, 1e6], 0),
        ("9223372036854775807", [1e6, 1e6], 0),
    ],
)
def test_boosters(text: str, factors: list[float], errors: int) -> None:
    found = compile_booster(text, SCHEMA).evaluate(table([_ANNA, _NOBODY]), NOW)
    assert (found.factors.tolist(), found.error_count) == (factors, errors)


@pytest.mark.parametrize(
    "text",
    [
        "has( user . age )",
        "has(\n  user.age // the age, has(user.group)\n)",
        "has(user.`age`)",
        "'has(user.vip)' != \"has(user.vip\" && has(user.age)",
        "!!has(user.age)",
        "user.age > 3 && user.`break` > duration('1h')",
        "user.tags.exists(user, user == 'a')",
        'user.joined > now - duration("168h")',
        "user.joined.getHours('Europe/Prague') == (user.joined.getHours() + 1) % 24",
        "user.tags == ['a', 'b'] && user.tags != ['a']",
        "user.hours.exists(k, k == 'action' && user.hours[k] == 3.0)",
        "{'loyal': 2, 'new': 1}[user.group] == 2",
    ],
)
def test_forms_that_match(text: str) -> None:
    assert _matches(text, _ANNA) == ([True], 0)


def test_spans_beyond_int64_nanoseconds_are_errors_where_the_library_cuts_them() -> None:
    assert _matches("user.joined + user.`break` > now", _ANNA) == ([False], 1)
    assert _matches("user.`break` > duration('1h')", _ANNA) == ([True], 0)


def test_equal_parts_are_computed_once() -> None:
    compiled = compile_filter("user.age * 2 > 5 || !(user.age * 2 > 5)", SCHEMA)
    first, second = compiled.root.arguments  # type: ignore[attr-defined]
    assert second.arguments[0] is first


def test_an_empty_table() -> None:
    assert _matches("user.tags.exists(t, t == 'a') && user.age > 1 && user.tags[0] == 'a'") == (
        [],
        0,
    )


def test_times_outside_of_the_range_are_errors() -> None:
    last = {"joined": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)}
    assert _matches("user.joined + duration('1s') > now", last) == ([False], 1)
    assert _matches("user.joined + duration('999ms') > now", last) == ([True], 0)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
def test_the_ends_of_time_can_be_written(text: str) -> None:
    assert _matches(f'user.joined != timestamp("{text}")', _ANNA) == ([True], 0)
