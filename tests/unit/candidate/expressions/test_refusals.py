"""Expressions that are refused: each with a message for people and its position."""

import time

import pytest

from services.candidate.expressions import ExpressionError, compile_booster, compile_filter
from services.candidate.expressions.cost import MAX_COST
from tests.unit.candidate.expressions.users import NOW, SCHEMA, table


def _refusal(text: str) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        compile_filter(text, SCHEMA)
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("user.age >", 1, 11, "Syntax error"),
        ("user.age > 3 &&\n  user.group == 1", 2, 14, "no matching overload"),
        ("usr.age > 3", 1, 1, "undeclared reference to 'usr.age'"),
        ("true && usr . age . x > 3", 1, 9, "undeclared reference to 'usr.age.x'"),
        ("foo(user.age)", 1, 1, "undeclared reference to 'foo'"),
        ("user.vip &&\n foo (1)", 2, 2, "undeclared reference to 'foo'"),
        ("user.age.bar(1) > 2", 1, 10, "undeclared reference to 'bar'"),
        ("user.age > 3 \x00", 1, 14, r"token recognition error at: '\x00'"),
        ("\x1b", 1, 1, r"token recognition error at: '\x1b'"),
        ("user.ago > 3", 1, 6, 'no user has an attribute "ago"; did you mean user.age?'),
        ("'😀' == user.grup", 1, 13, "did you mean user.group?"),
        ("// 😀\nhas(user.qqq)", 2, 10, 'no user has an attribute "qqq"'),
        ("has(\nuser.age) && user.age + 'a' == 1", 2, 23, "no matching overload"),
        ("user.age > 3.0", 1, 10, "write 3, or convert the whole number by double()"),
        ("user.age > 3.5", 1, 10, "don't mix: convert the whole number by double()"),
        ("30.0 <= user.age", 1, 6, "write 30, or convert the whole number by double()"),
        ("user.score > 30", 1, 12, "write 30.0, or convert by double()"),
        ("7 < user.score", 1, 3, "write 7.0, or convert by double()"),
        ("user.score > user.age", 1, 12, "don't mix: convert the whole number by double()"),
        ("user", 1, 1, "attributes are written user.NAME"),
        ("user['age'] > 3", 1, 1, "attributes are written user.NAME"),
        ("has((user).vip)", 1, 1, "write has(user.NAME), with single parentheses"),
        ("user.group.matches('(')", 1, 19, "missing )"),
        ("user.group.startsWith(user.city)", 1, 22, "has to be a literal"),
        ("user.joined > timestamp('soon')", 1, 24, '"soon" is no timestamp'),
        ("user.played > duration('1d')", 1, 23, '"1d" is no duration'),
        ("user.played > duration('1ns')", 1, 23, "finer than a microsecond"),
        ("user.joined.getHours('Atlantis') > 3", 1, 21, 'there is no time zone "Atlantis"'),
        ("user.joined == null", 1, 16, "null can't be used here"),
        ("b'a' == b'a'", 1, 1, "bytes can't be used here"),
        ("1u == 1u", 1, 1, "unsigned numbers can't be used here"),
        ("user.tags.map(t, t) == []", 1, 14, "only the macros has, exists, all and exists_one"),
        ("user.tags == user.likes", 1, 11, "only lists can be compared, one with a literal"),
        ("[1, 2.0][0] == 1", 1, 1, "of one type"),
        ("{'a': 1, 'a': 2}['a'] == 1", 1, 1, "literals that differ"),
        ("type(user.age) == int", 1, 5, "type isn't supported for (int)"),
        ("user.group.charAt(0) == 'a'", 1, 18, "charAt isn't supported for (string, int)"),
        ("string(user.score) == '1'", 1, 7, "string isn't supported for (double)"),
        ("google.protobuf.Timestamp{} == now", 1, 1, "messages such as"),
        ("user.age", 1, 1, "a filter has to be of type bool, this is of type int"),
        ("user.tags", 1, 5, "a list or a map can't stand here"),
        (" ", 1, 1, "the expression is empty"),
        ("user.group == '\ud800'", 1, 16, "half a character"),
    ],
)
def test_refusals_say_where_and_why(text: str, line: int, column: int, message: str) -> None:
    refusal = _refusal(text)
    assert message in refusal.message
    assert (refusal.line, refusal.column) == (line, column)


def test_a_booster_is_a_number() -> None:
    with pytest.raises(ExpressionError, match="a booster has to be of type double or int"):
        compile_booster("user.vip", SCHEMA)


@pytest.mark.parametrize(
    "bomb",
    [
        "[1,1,1,1,1,1,1,1].all(a, " * 12 + "true" + ")" * 12,
        "user.tags.all(a, " * 8 + "true" + ")" * 8,
        "[" + ",".join(["1"] * 2020) + "].exists(x, x == user.age)",
        "||".join(["user.group.matches('.*')"] * 100),
    ],
    ids=["literals", "lists", "elements", "patterns"],
)
def test_bombs_are_refused_with_their_cost_and_the_limit(bomb: str) -> None:
    started = time.monotonic()
    message = _refusal(bomb).message
    assert "operations per user" in message
    assert f"at most {MAX_COST} are allowed" in message
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "text",
    [
        "(" * 4096,
        "(" * 2000 + "true" + ")" * 2000,
        "[" * 2000 + "]" * 2000,
        "{1:" * 1000 + "1" + "}" * 1000,
        "true ? true : " * 290 + "true",
        "+".join(["user.age"] * 400) + " > 1",
        "user.tags" + "[0]" * 1000,
        "a" + ".b" * 2000,
        "size(" * 800 + "1" + ")" * 800,
        "1" * 4000,
        "?" * 4000,
        "`" * 4000,
        '"""' * 1300,
        "\0" * 4000,
        "@ " * 2000,
        "user.tags.exists(x, " * 200,
    ],
    ids=lambda text: text[:8].strip("\0"),
)
def test_texts_that_try_the_parser_are_refused(text: str) -> None:
    _refusal(text)


@pytest.mark.parametrize(
    "text",
    ["!" * 4000 + "true", "-" * 4000 + "user.age > 1", "'" + "a" * 4000 + "' == user.group"],
    ids=["not", "minus", "literal"],
)
def test_long_texts_of_little_cost_are_taken(text: str) -> None:
    compile_filter(text, SCHEMA).evaluate(table([{}]), NOW)


def test_the_length_is_limited() -> None:
    assert "has 4097 characters; at most 4096" in _refusal("true " + " " * 4092).message


def test_a_pattern_takes_time_linear_in_the_text() -> None:
    columns = table([{"group": "a" * 4000 + "!"}] * 50)
    started = time.monotonic()
    compile_filter("user.group.matches('(a+)+$')", SCHEMA).evaluate(columns, NOW)
    assert time.monotonic() - started < 1
