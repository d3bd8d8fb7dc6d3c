"""Repetitions: the same items, or nearly the same words."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.candidate.events import Event
from services.candidate.repeats import REPEATED_CONTENT, REPEATED_ITEM, Content, repetition

NOW = datetime(2026, 1, 5, tzinfo=UTC)
TITLES = {
    "1": "Toy Story (1995)",
    "2": "Toy Story 2 (1999)",
    "3": "TOY STORY, 1995",
    "4": "Der König der Löwen",
    "5": "der Ko\u0308nig der Lo\u0308wen",
}


def content(items: str = "", **payload: str) -> Content:
    event = Event("u", "e", "t", NOW, NOW + timedelta(days=1), tuple(items), payload)
    return Content.of(event, TITLES)


@pytest.mark.parametrize(
    ("newcomer", "past", "reason"),
    [
        (content("1"), [], ""),
        (content("1"), [content("1", a="other words")], REPEATED_ITEM),
        (content("12"), [content("1"), content("2")], REPEATED_ITEM),
        (content("14"), [content("1")], ""),
        (content("3"), [content("1")], REPEATED_CONTENT),
        (content("4"), [content("5")], REPEATED_CONTENT),
        (content("2"), [content("1")], ""),
        (content("2", a="because you liked it"), [content("1", a="because you liked it")], ""),
        (content("3", a="because you liked it"), [content("1", a="new on the list today")], ""),
        (content("98"), [content("7")], ""),  # no titles: their words tell nothing
        (content(a="Sale: all shoes -20 %"), [content(b="sale! ALL shoes 20%")], REPEATED_CONTENT),
        (content(a="you have 3 new messages"), [content(a="you have 5 new messages")], ""),
        (content(), [content()], ""),
    ],
)
def test_what_is_a_repetition(newcomer: Content, past: list[Content], reason: str) -> None:
    assert repetition(newcomer, past) == reason


@given(st.text(max_size=300), st.text(max_size=300))
def test_contents_come_back(title: str, words: str) -> None:
    event = Event("u", "e", "t", NOW, NOW + timedelta(days=1), ("x",), {"a": words})
    made = Content.of(event, {"x": title})
    assert Content.unpacked(("x",), made.packed()) == made
