"""Activeness segments and the bitmap of active days behind them."""

from datetime import date, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy.segments import BITMAP_DAYS, ActiveDays, Segment, segment_of

TODAY = date(2026, 3, 1)
LONG_AGO = TODAY - timedelta(days=400)

ages = st.sets(st.integers(0, BITMAP_DAYS - 1))


def active(*ages_in_days: int, until: date = TODAY) -> ActiveDays:
    """Active so many days before `until`."""
    return ActiveDays(until, sum(1 << age for age in set(ages_in_days)))


@pytest.mark.parametrize(
    ("joined_ago", "ages_in_days", "expected"),
    [
        (0, [], Segment.NEW),
        (13, range(13), Segment.NEW),
        (14, [], Segment.DORMANT),
        (14, range(14), Segment.CORE),
        (400, [], Segment.DORMANT),
        (400, [28, 29, 30], Segment.DORMANT),
        (400, [27], Segment.MARGINAL),
        (400, [0], Segment.RESURRECTED),
        (400, [0, 1, 6], Segment.RESURRECTED),
        (400, [6, 35], Segment.RESURRECTED),
        (400, [6, 34], Segment.MARGINAL),
        (400, [7], Segment.MARGINAL),
        (20, [0], Segment.MARGINAL),
        (28, [0], Segment.RESURRECTED),
        (400, [0, 20], Segment.MARGINAL),
        (400, [0, 10, 20], Segment.CASUAL),
        (400, [0, 3, 6, 9, 12, 15, 18], Segment.CASUAL),
        (400, [0, 3, 6, 9, 12, 15, 18, 21], Segment.CORE),
        (400, [20, 21, 22, 23, 24, 25, 26, 27], Segment.CORE),
    ],
)
def test_the_first_matching_rule_gives_the_segment(
    joined_ago: int, ages_in_days: list[int], expected: Segment
) -> None:
    create_day = TODAY - timedelta(days=joined_ago)

    assert segment_of(create_day, active(*ages_in_days), TODAY) is expected


@given(ages, st.integers(0, 70), st.integers(0, 500))
def test_a_bitmap_kept_on_an_earlier_day_gives_the_same_segment(
    ages_in_days: set[int], days_since: int, joined_ago: int
) -> None:
    create_day = TODAY - timedelta(days=joined_ago)
    kept_on = TODAY - timedelta(days=days_since)
    kept = active(*ages_in_days, until=kept_on)
    seen = active(
        *(age + days_since for age in ages_in_days if age + days_since < BITMAP_DAYS), until=TODAY
    )

    assert segment_of(create_day, kept, TODAY) is segment_of(create_day, seen, TODAY)


@given(st.lists(st.integers(0, 63), min_size=1, max_size=30), st.randoms())
def test_marking_days_in_any_order_keeps_the_same_days(days_ago: list[int], random: Random) -> None:
    shuffled = sorted(days_ago, key=lambda _: random.random())
    kept = ActiveDays(TODAY - timedelta(days=shuffled[0]))
    for age in shuffled:
        kept = kept.marked(TODAY - timedelta(days=age))

    assert kept.until(TODAY).bits == active(*days_ago).bits


@given(st.integers(0, (1 << 64) - 1))
def test_the_bits_survive_a_bigint_column(bits: int) -> None:
    kept = ActiveDays(TODAY, bits)

    assert -(1 << 63) <= kept.signed() < 1 << 63
    assert ActiveDays.from_signed(TODAY, kept.signed()) == kept


def test_a_day_older_than_the_bitmap_is_forgotten() -> None:
    assert active(0).marked(TODAY - timedelta(days=64)) == active(0)
