"""Each operation over all pairs of values at which it is apt to go wrong, against the library."""

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from tests.unit.candidate.expressions.evaluation import evaluated, expected
from tests.unit.candidate.expressions.users import (
    LONGEST,
    NOW,
    SOME_DOUBLES,
    SOME_INTS,
    SOME_TEXTS,
    User,
)

_MICROSECOND = timedelta(microseconds=1)
_CHANGES = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
    datetime(2200, 6, 1, tzinfo=UTC),
]
"""Among them the ends of daylight saving in Prague and New York."""
_TIMES = [
    NOW,
    datetime(1, 1, 1, tzinfo=UTC),
    datetime.max.replace(tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2000, 2, 29, 12, tzinfo=UTC),
    *_CHANGES,
    *(change - _MICROSECOND for change in _CHANGES),
]
_SPANS = [
    timedelta(0),
    _MICROSECOND,
    -_MICROSECOND,
    timedelta(milliseconds=-1500),
    timedelta(minutes=-90),
    timedelta(hours=25, milliseconds=999),
    LONGEST,
    -LONGEST,
]
_LISTS = [[], ["a"], ["a", "b"], ["b", "a", "a"], ["", "Aé😀"]]
_MAPS = [{}, {"a": 1.0}, {"a": -1.0}, {"a": -1.0, "b": 2.0}, {"loyal": 0.5}]


def _pairs(
    first: str, second: str, values: list[Any], others: list[Any] | None = None
) -> list[User]:
    pairs = product(values, values if others is None else others)
    return [{first: one, second: other} for one, other in pairs] + [{first: values[0]}, {}]


_INTS = _pairs("age", "visits", SOME_INTS)
_DOUBLES = _pairs("score", "spent-total", SOME_DOUBLES)
_TEXTS = _pairs("group", "city", SOME_TEXTS)
_TWO_TIMES = _pairs("joined", "seen", _TIMES)
_TWO_SPANS = _pairs("played", "break", _SPANS)
_TIME_AND_SPAN = _pairs("joined", "played", _TIMES, _SPANS)
_TRUTHS = _pairs("vip", "trial", [False, True])
_COLLECTIONS: list[User] = [
    {"tags": tags, "likes": likes, "hours": hours, "group": group, "age": age}
    for tags, likes, hours in product(_LISTS, _LISTS, _MAPS)
    for group, age in [("a", 0), ("b", 1), ("", -1)]
] + [{"tags": []}, {}]

_COMPARED = ["==", "!=", "<", "<=", ">", ">="]
_ZONES = ["", '"UTC"', '"+05:30"', '"-08:00"', '"Europe/Prague"', '"America/New_York"']
_PARTS = [
    "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfYear", "getDayOfWeek",
    "getHours", "getMinutes", "getSeconds", "getMilliseconds",
]  # fmt: skip
_CASES: list[tuple[str, list[User]]] = [
    *((f"user.age {sign} user.visits", _INTS) for sign in ["+", "-", "*", "/", "%", *_COMPARED]),
    *((text, _INTS) for text in ["-user.age", "double(user.age)", "string(user.age)"]),
    ("timestamp(user.age)", _INTS),
    ("user.age in [0, 1, user.visits]", _INTS),
    ("user.age in [0, 1, 2, 4, 8, 16, 32, 64, 128]", _INTS),
    ("[5, 6, 7][user.age]", _INTS),
    ("{1: 5, 2: 6}[user.age]", _INTS),
    *(
        (f"user.score {sign} user.`spent-total`", _DOUBLES)
        for sign in ["+", "-", "*", "/", *_COMPARED]
    ),
    *((text, _DOUBLES) for text in ["-user.score", "int(user.score)"]),
    ("user.score / 0.0 == user.score / -0.0", _DOUBLES),
    ("user.score / 0.0 in [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]", _DOUBLES),
    *((f"user.group {sign} user.city", _TEXTS) for sign in ["+", *_COMPARED]),
    *((f"user.group.{name}()", _TEXTS) for name in ["size", "lowerAscii", "upperAscii"]),
    *((f"user.group.{name}('a')", _TEXTS) for name in ["startsWith", "endsWith", "contains"]),
    *((f"user.group.{name}('')", _TEXTS) for name in ["startsWith", "endsWith", "contains"]),
    *((f"user.group.matches(r'{p}')", _TEXTS) for p in ["a.b", "^$", "^.$", "(?i)LOYAL", r"\pL"]),
    *((f"user.joined {sign} user.seen", _TWO_TIMES) for sign in ["-", *_COMPARED]),
    *((f"user.joined {sign} user.played", _TIME_AND_SPAN) for sign in ["+", "-"]),
    ("user.played + user.joined", _TIME_AND_SPAN),
    ("int(user.joined)", _TWO_TIMES),
    *((f"user.played {sign} user.`break`", _TWO_SPANS) for sign in ["+", "-", *_COMPARED]),
    *((f"user.played.{part}()", _TWO_SPANS) for part in _PARTS[-4:]),
    *((f"user.joined.{part}({zone})", _TWO_TIMES) for part in _PARTS for zone in _ZONES),
    *((f"user.vip {sign} user.trial", _TRUTHS) for sign in ["&&", "||", *_COMPARED]),
    ("user.vip ? user.trial : user.vip", _TRUTHS),
    ("string(user.vip)", _TRUTHS),
    *(
        (text, _COLLECTIONS)
        for text in [
            "size(user.tags) + size(user.hours)",
            "user.tags[user.age]",
            "user.hours[user.group]",
            "user.hours.a",
            "has(user.hours.a)",
            "user.group in user.tags",
            "user.group in user.hours",
            "user.tags == ['a', user.group]",
            "user.tags != []",
            "user.tags.exists(x, user.tags.exists(y, x != y))",
            "user.tags.exists(x, user.likes.all(y, x != y || user.hours[x] > 0.0))",
            "user.tags.exists_one(x, x in user.likes)",
            "user.tags.exists(x, user.hours[x] > 0.0)",
            "user.tags.all(x, user.hours[x] > 0.0)",
            "user.tags.exists_one(x, user.hours[x] > 0.0)",
            "user.hours.all(k, user.hours[k] > 0.0 || k == user.group)",
            "['a', 'b'].exists_one(x, user.tags.all(y, y == x))",
            "user.tags.all(x, user.hours.exists(k, user.hours[k] > 0.0 && k == x))",
            "user.tags.exists(x, user.likes[user.age] == x)",
            "user.tags.all(x, x + x == user.group + user.group)",
        ]
    ),
]


@pytest.mark.parametrize(("text", "users"), _CASES, ids=[text for text, _ in _CASES])
def test_each_operation_is_that_of_the_library(text: str, users: list[User]) -> None:
    assert evaluated(text, users) == expected(text, users)
