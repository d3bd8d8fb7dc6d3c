"""The hard rules, one by one and in their order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy.batch import Batch, Caps, Event, EventType, Fatigue, Send, Surroundings
from services.policy.channel_bits import EMAIL, IN_APP, PUSH
from services.policy.experiments import Membership
from services.policy.preferences import QuietHours
from services.policy.rules import RULES, apply_rules
from services.policy.rules.caps_and_gaps import caps_of, recent
from services.policy.rules.quiet_hours import quiet_until
from services.policy.rules.removal import KEPT
from services.policy.stop_switches import StopSwitches
from tests.unit.policy.decided import CRITICAL, NOW, RANKED, policy, slot, user

ANYTHING = EventType("movie", (PUSH, EMAIL, IN_APP), topic="movies")
ZONES = ("America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "UTC")


def removed(
    kind: EventType = ANYTHING, *, now: datetime = NOW, around: dict[str, Any] | None = None,
    expire_time: float = float("inf"), campaign_id: str = "", **fields: Any,
) -> dict[int, str]:  # fmt: skip
    """Reason by channel for which a user's only event was removed; none for the channels left."""
    given_event = Event("a", kind, (), campaign_id, expire_time)
    rules = policy(now).around
    surroundings = Surroundings(
        now, **({"switches": rules.switches, "caps": rules.caps, "quiet_hours": rules.quiet_hours}
        | (around or {})),
    )  # fmt: skip
    batch = Batch([slot([given_event], time=now)], {"ann": user(**fields)}, surroundings)
    ruled = apply_rules(batch)
    return {
        int(batch.column[option]) + 1: ruled.cause_of(option).reason
        for option in range(batch.size)
        if ruled.removed_by[option] != KEPT
    }


def sent(hours: float, channel: int) -> Send:
    return Send(NOW - timedelta(hours=hours), channel, f"d-{hours}")


EVERYWHERE = (PUSH, EMAIL, IN_APP)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"opt_ins": 1}, {EMAIL: "OPT_OUT", IN_APP: "OPT_OUT"}),
        ({"reachable": 6}, {PUSH: "UNREACHABLE"}),
        ({"unsubscribed_topics": frozenset({"movies"})}, {EMAIL: "UNSUBSCRIBED"}),
        ({"unsubscribed_topics": frozenset({"others"})}, {}),
        ({"muted_channels": 2}, {EMAIL: "MUTED"}),
        ({"muted_topics": frozenset({"movies"})}, dict.fromkeys(EVERYWHERE, "MUTED")),
        ({"snooze_until": NOW + timedelta(hours=1)}, dict.fromkeys(EVERYWHERE, "SNOOZED")),
        ({"snooze_until": NOW}, {}),
        ({"time_zone": "Asia/Tokyo"}, dict.fromkeys(EVERYWHERE, "QUIET_HOURS")),
        ({"time_zone": "Asia/Tokyo", "quiet_hours": QuietHours(0, 0)}, {}),
        ({"expire_time": NOW.timestamp()}, dict.fromkeys(EVERYWHERE, "EXPIRED")),
        ({"expire_time": NOW.timestamp() + 1}, {}),
        ({"decided_events": {"a"}}, dict.fromkeys(EVERYWHERE, "DUPLICATE")),
        ({"fatigue": Fatigue([sent(2.9, PUSH)])}, dict.fromkeys(EVERYWHERE, "GAP")),
        ({"fatigue": Fatigue([sent(3, PUSH)])}, {}),
        ({"fatigue": Fatigue([sent(9, EMAIL)])}, {EMAIL: "CAP"}),
        ({"fatigue": Fatigue([sent(24, EMAIL)])}, {}),
        ({"fatigue": Fatigue([sent(9, PUSH), sent(5, PUSH)])}, {PUSH: "CAP"}),
        (
            {"fatigue": Fatigue([sent(15, IN_APP), sent(9, PUSH), sent(5, EMAIL)])},
            dict.fromkeys(EVERYWHERE, "CAP"),
        ),
        (
            {"around": {"switches": StopSwitches.of([("channel", "1")])}},
            {PUSH: "PAUSED"},
        ),
        (
            {"around": {"switches": StopSwitches.of([("campaign", "c")])}, "campaign_id": "c"},
            dict.fromkeys(EVERYWHERE, "PAUSED"),
        ),
    ],
)
def test_each_rule_removes_what_it_says(fields: dict[str, Any], expected: dict[int, str]) -> None:
    assert removed(**fields) == expected


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ({"muted_topics": frozenset({"code"}), "muted_channels": 7}, True),
        ({"snooze_until": NOW + timedelta(hours=1)}, True),
        ({"time_zone": "Asia/Tokyo"}, True),
        ({"fatigue": Fatigue([sent(hours, PUSH) for hours in (3, 2, 1)])}, True),
        ({"opt_ins": 0}, False),
        ({"reachable": 0}, False),
        ({"decided_events": {"a"}}, False),
        ({"expire_time": NOW.timestamp()}, False),
        ({"around": {"switches": StopSwitches.of([("all", "")])}}, False),
    ],
)
def test_critical_types_pass_what_the_user_prefers_and_nothing_else(
    fields: dict[str, Any], passes: bool
) -> None:
    assert (removed(CRITICAL, **fields) == {}) is passes


def test_the_first_rule_in_the_order_stands() -> None:
    everything_wrong = {
        "opt_ins": 0,
        "muted_channels": 7,
        "time_zone": "Asia/Tokyo",
        "expire_time": NOW.timestamp(),
        "fatigue": Fatigue([sent(1, PUSH)]),
    }
    assert removed(**everything_wrong) == dict.fromkeys(EVERYWHERE, "OPT_OUT")
    assert [rule.name for rule in RULES] == [
        "stop_switches",
        "opt_out_and_reachability",
        "expiry_and_duplicates",
        "preferences",
        "quiet_hours",
        "caps_and_gaps",
    ]


minutes = st.integers(0, 1439)
moments = st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)


@given(moments, st.sampled_from(ZONES), minutes, minutes)
def test_quiet_hours_end_when_they_say(now: datetime, zone: str, start: int, end: int) -> None:
    hours = QuietHours(start, end)
    local = now.astimezone(ZoneInfo(zone))
    until = quiet_until(now, zone, hours)
    assert (until is not None) is hours.covers(local.hour * 60 + local.minute)
    if until is not None:
        assert now < until <= now + timedelta(hours=26)


@pytest.mark.parametrize(
    ("now", "hours", "expected"),
    [
        # New York springs forward on 8 March 2026 at 02:00: 07:00 UTC is 03:00.
        ("2026-03-08T06:30", QuietHours(22 * 60, 2 * 60 + 30), "2026-03-08T07:30"),
        ("2026-03-08T11:59", QuietHours(22 * 60, 8 * 60), "2026-03-08T12:00"),
        ("2026-03-07T12:59", QuietHours(22 * 60, 8 * 60), "2026-03-07T13:00"),
        # And falls back on 1 November 2026 at 02:00: 01:00–02:00 comes twice.
        ("2026-11-01T05:15", QuietHours(22 * 60, 90), "2026-11-01T05:30"),
        ("2026-11-01T06:15", QuietHours(22 * 60, 90), "2026-11-01T06:30"),
        ("2026-11-01T12:59", QuietHours(22 * 60, 8 * 60), "2026-11-01T13:00"),
        ("2026-11-01T13:00", QuietHours(22 * 60, 8 * 60), None),
    ],
)
def test_quiet_hours_follow_the_clock_on_the_wall(
    now: str, hours: QuietHours, expected: str | None
) -> None:
    found = quiet_until(datetime.fromisoformat(now + "Z"), "America/New_York", hours)
    assert found == (None if expected is None else datetime.fromisoformat(expected + "Z"))


@given(st.lists(st.tuples(st.floats(0, 60), st.sampled_from(EVERYWHERE)), max_size=40))
def test_invariant_5_no_window_of_24_hours_holds_more_than_the_caps(
    wishes: list[tuple[float, int]],
) -> None:
    """Whatever is asked for and when, what the rule lets through keeps to the caps."""
    caps = Caps(3, {PUSH: 2, EMAIL: 1, IN_APP: 3}, 3 * 3600)
    sends: list[Send] = []
    for hours, channel in sorted(wishes):
        now = NOW + timedelta(hours=hours)
        fatigue = Fatigue(list(sends))
        around = {"quiet_hours": QuietHours(0, 0)}
        if channel not in removed(now=now, fatigue=fatigue, around=around):
            sends.append(Send(now, channel, str(len(sends))))
    for send in sends:
        window = recent([one for one in sends if one.time <= send.time], send.time)
        assert len(window) <= caps.per_day
        for channel, most in caps.per_channel.items():
            assert sum(one.channel == channel for one in window) <= most
    for first, second in pairwise(sends):
        assert (second.time - first.time).total_seconds() >= caps.gap_seconds


def test_an_experiment_may_set_the_cap() -> None:
    caps = Caps()
    assert caps_of(Membership(1, {}, cap_per_day=1), caps).per_day == 1
    none = Membership(1, {}, cap_per_day=0)
    assert removed(membership=none) == dict.fromkeys(EVERYWHERE, "CAP")
    assert caps_of(Membership(1, {}), caps) == caps


def test_rules_see_a_type_only_in_its_channels() -> None:
    assert removed(RANKED, reachable=0) == {PUSH: "UNREACHABLE", EMAIL: "UNREACHABLE"}
