"""Preferences, stop switches and the hour profile."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy import hour_profile
from services.policy.preferences import (
    PreferenceChange,
    Preferences,
    QuietHours,
    TooManyTopics,
    merged,
)
from services.policy.stop_switches import Scope, StopSwitch, StopSwitches

TOPICS = st.dictionaries(st.sampled_from("abcdef"), st.booleans())
CHANNELS = st.dictionaries(st.integers(1, 3), st.booleans())


@given(TOPICS, TOPICS, CHANNELS)
def test_a_change_sets_what_it_names_and_leaves_the_rest(
    before: dict[str, bool], change: dict[str, bool], channels: dict[int, bool]
) -> None:
    current = merged(Preferences(), PreferenceChange(before, {}))

    after = merged(current, PreferenceChange(change, channels))

    assert after.muted_topics == {key for key, off in (before | change).items() if off}
    assert after.muted_channels == {key for key, off in channels.items() if off}


def test_quiet_hours_stay_until_others_are_given() -> None:
    quiet = QuietHours(60, 120)
    current = merged(Preferences(), PreferenceChange({}, {}, quiet))

    assert merged(current, PreferenceChange({"a": True}, {})).quiet_hours == quiet
    assert merged(current, PreferenceChange({}, {}, QuietHours(0, 0))).quiet_hours == QuietHours(
        0, 0
    )


def test_more_topics_than_are_kept_are_refused() -> None:
    full = merged(Preferences(), PreferenceChange({f"t{k}": True for k in range(256)}, {}))

    assert len(merged(full, PreferenceChange({"t0": False, "new": True}, {})).muted_topics) == 256
    with pytest.raises(TooManyTopics):
        merged(full, PreferenceChange({"new": True}, {}))


@pytest.mark.parametrize(
    ("quiet", "minute", "expected"),
    [
        (QuietHours(1320, 480), 1320, True),
        (QuietHours(1320, 480), 1439, True),
        (QuietHours(1320, 480), 0, True),
        (QuietHours(1320, 480), 479, True),
        (QuietHours(1320, 480), 480, False),
        (QuietHours(60, 120), 60, True),
        (QuietHours(60, 120), 120, False),
        (QuietHours(60, 60), 60, False),
    ],
)
def test_quiet_hours_begin_at_their_start_and_end_before_their_end(
    quiet: QuietHours, minute: int, expected: bool
) -> None:
    assert quiet.covers(minute) is expected


@pytest.mark.parametrize(
    ("closed", "stopped"),
    [
        (StopSwitch(Scope.ALL), True),
        (StopSwitch(Scope.CHANNEL, "1"), True),
        (StopSwitch(Scope.CHANNEL, "2"), False),
        (StopSwitch(Scope.EVENT_TYPE, "movie.suggestion"), True),
        (StopSwitch(Scope.EVENT_TYPE, "movie"), False),
        (StopSwitch(Scope.CAMPAIGN, "spring"), True),
        (StopSwitch(Scope.CAMPAIGN, "autumn"), False),
    ],
)
def test_a_switch_stops_what_it_covers(closed: StopSwitch, stopped: bool) -> None:
    switches = StopSwitches(frozenset([closed]))

    found = switches.stopping(1, "movie.suggestion", "spring")

    assert found == (closed if stopped else None)


def test_the_widest_switch_is_named() -> None:
    switches = StopSwitches.of([("event_type", "a"), ("all", ""), ("channel", "1")])

    assert switches.stopping(1, "a") == StopSwitch(Scope.ALL)


def test_a_message_of_no_campaign_is_in_none() -> None:
    assert StopSwitches.of([("campaign", "")]).stopping(1, "a", "") is None


def test_an_hour_of_the_week_is_local() -> None:
    monday = datetime(2026, 1, 5, 2, 30, tzinfo=UTC)

    assert hour_profile.hour_of_week(monday, "UTC") == 2
    assert hour_profile.hour_of_week(monday, "America/New_York") == 6 * 24 + 21


@given(st.lists(st.integers(0, 167), min_size=1, max_size=600))
def test_a_profile_is_a_distribution_that_peaks_where_the_activity_is(hours: list[int]) -> None:
    counts = hour_profile.counted(hour_profile.no_counts(), hours)
    shares = hour_profile.profile(hour_profile.read_counts(counts.tobytes()))

    assert shares.shape == (168,)
    assert shares.min() > 0
    assert shares.sum() == pytest.approx(1.0, abs=1e-5)


def test_the_profile_of_one_habit_peaks_at_its_hour() -> None:
    counts = hour_profile.counted(hour_profile.no_counts(), [50] * 300)

    assert int(np.argmax(hour_profile.profile(counts))) == 50
    assert counts.max() < 256


def test_nothing_known_is_an_empty_profile() -> None:
    assert hour_profile.profile(hour_profile.read_counts(b"")).size == 0
