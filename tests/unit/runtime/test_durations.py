"""Durations in words."""

from datetime import timedelta

import pytest

from services.runtime.durations import in_words


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(days=3), "3 days"),
        (timedelta(minutes=90), "1 hour 30 minutes"),
        (timedelta(days=1, seconds=1), "1 day 1 second"),
        (timedelta(seconds=10), "10 seconds"),
        (timedelta(milliseconds=1500), "1.5 seconds"),
        (timedelta(microseconds=1), "0.000001 seconds"),
        (timedelta(0), "0 seconds"),
        (timedelta(hours=-1), "minus 1 hour"),
        (timedelta(days=400, hours=23, minutes=59), "400 days 23 hours 59 minutes"),
    ],
)
def test_spans_read_as_people_write_them(span: timedelta, words: str) -> None:
    assert in_words(span) == words
