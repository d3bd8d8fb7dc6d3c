"""Array literals, read back by the rules of Postgres."""

import re
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
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from("\t\n\r\\")
)


@given(st.lists(plain))
def test_texts_come_back(values: list[str]) -> None:
    assert parsed(literals.texts(values)) == values


@given(st.lists(st.binary()))
def test_binaries_come_back(values: list[bytes]) -> None:
    assert [bytes.fromhex(text[2:]) for text in parsed(literals.binaries(values))] == values


def uncopied(rows: bytes) -> list[list[str]]:
    """Values of rows in COPY's text format, see the manual's "COPY"."""
    signs = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\\\": "\\"}
    lines = rows.decode().split("\n")
    assert lines.pop() == ""
    return [
        [re.sub(r"\\.", lambda found: signs[found[0]], value) for value in line.split("\t")]
        for line in lines
    ]


@given(st.lists(st.tuples(plain, plain), min_size=1))
def test_copied_rows_come_back(rows: list[tuple[str, str]]) -> None:
    columns = [literals.copied(column) for column in zip(*rows, strict=True)]
    assert uncopied(literals.copied_rows(columns)) == [list(row) for row in rows]


def test_copied_binaries() -> None:
    assert literals.copied_binaries([b"", b"\x00\xff"]) == ["\\\\x", "\\\\x00ff"]


def test_other_literals() -> None:
    moment = datetime(2026, 1, 5, tzinfo=UTC)
    assert literals.times([moment, None]) == '{"2026-01-05T00:00:00+00:00",NULL}'
    assert literals.numbers([1, 0.1]) == "{1,0.1}"
    assert literals.flags([True, False]) == "{t,f}"
