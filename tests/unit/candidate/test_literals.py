"""Array literals, read back by the rules of Postgres."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from services.candidate import literals


def parsed(literal: str) -> list[str]:
    """Elements of a one-dimensional array literal, see the manual's "Array Input and Output"."""
    found: list[str] = []
    inside, escaped = False, False
    for sign in literal[1:-1]:
        if escaped:
            found[-1] += sign
            escaped = False
        elif inside and sign == "\\":
            escaped = True
        elif sign == '"':
            inside = not inside
            if inside:
                found.append("")
        elif inside:
            found[-1] += sign
    return found


plain = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from('\n"\\')
)


@given(st.lists(plain))
def test_texts_come_back(values: list[str]) -> None:
    assert parsed(literals.texts(values)) == values


@given(st.lists(st.binary()))
def test_binaries_come_back(values: list[bytes]) -> None:
    assert [bytes.fromhex(text[2:]) for text in parsed(literals.binaries(values))] == values


def test_other_literals() -> None:
    moment = datetime(2026, 1, 5, tzinfo=UTC)
    assert literals.times([moment, None]) == '{"2026-01-05T00:00:00+00:00",NULL}'
    assert literals.numbers([1, 0.1]) == "{1,0.1}"
    assert literals.flags([True, False]) == "{t,f}"
