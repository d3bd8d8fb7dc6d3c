"""Slots as the replay expects them."""

from datetime import UTC, datetime, timedelta

from simulation.recipients import Reach, slot_moments

START = datetime(2026, 3, 8, tzinfo=UTC)
"""The day on which clocks in New York go forward, from 02:00 to 03:00 (07:00 UTC)."""


def test_the_hours_with_slots_and_midnight() -> None:
    reaches = [
        Reach(0, True, True, "America/New_York", (1, 19)),
        Reach(1, True, True, "UTC", ()),
    ]
    hours = [(moment - START) // timedelta(hours=1) for moment in slot_moments(reaches, START)]
    # New York: 01:00 is 06:00 UTC, and 19:00 is 23:00 after the change, 00:00 (of the day before)
    # by midnight's own rule. UTC: the default hours 9, 13, 19.
    assert hours == [0, 6, 9, 13, 19, 23]


def test_a_zone_off_the_hour_is_played_at_the_next_full_hour() -> None:
    reaches = [Reach(0, True, True, "Asia/Kolkata", (9,))]  # 09:00 is 03:30 UTC
    assert slot_moments(reaches, START) == [START, START + timedelta(hours=4)]
