"""The controller: one step at a time, and in a closed loop with a simulated stream of slots."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy.batch import Floats
from services.policy.controller import (
    CLOSED,
    Gains,
    Judgement,
    Reading,
    State,
    judgement,
    retarget,
    start,
    step,
)
from services.policy.pacing import (
    BIN,
    BINS,
    Curve,
    SlotHours,
    bin_of,
    curve,
    flat,
    slots_by_bin,
    with_channel,
)
from services.policy.recent_offers import READ_BACK, OfferBatch, RecentOffers

GAINS = Gains()
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
ZONES = ("America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles")
HOURS = (9, 13, 19)


def reading(**changes: Any) -> Reading:
    known = Reading(
        now=MONDAY + timedelta(hours=12),
        paced=0.5,
        progress=0.1,
        burst=0.05,
        volume=50,
        offer_count=10,
        expected_offers=1000.0,
    )
    return replace(known, **changes)


def state(**changes: Any) -> State:
    first = start(100.0, 1000.0, GAINS)
    return replace(first, **changes)


def test_the_first_state_sends_the_share_that_the_target_implies() -> None:
    assert 1 - start(100.0, 1000.0, GAINS).quantile == pytest.approx(0.1)
    assert start(100.0, 50.0, GAINS).quantile == 0
    assert start(0.0, 1000.0, GAINS).quantile == 1


def test_lagging_lowers_the_quantile_and_leading_raises_it() -> None:
    before = state()
    assert step(before, reading(volume=40), GAINS).state.quantile < before.quantile
    assert step(before, reading(volume=60), GAINS).state.quantile > before.quantile
    assert step(before, reading(volume=50), GAINS).state.quantile == pytest.approx(before.quantile)


@pytest.mark.parametrize("field_name", ["paced", "progress", "burst", "expected_offers"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_moves_nothing(field_name: str, value: float) -> None:
    made = step(state(), reading(**{field_name: value}), GAINS)
    assert (made.state, made.outcome) == (state(), "NOT_FINITE")


def test_a_clock_that_goes_back_moves_nothing() -> None:
    first = step(state(), reading(volume=10), GAINS)
    again = step(first.state, reading(volume=90), GAINS)
    assert (again.state, again.outcome) == (first.state, "CLOCK_BACK")


def test_without_offers_the_integral_holds() -> None:
    made = step(state(), reading(volume=0, offer_count=0), GAINS)
    assert made.outcome == "NO_OFFERS"
    assert made.state.integral == state().integral


def test_a_target_of_0_closes_and_a_new_one_opens() -> None:
    closed = retarget(state(), 0.0, 1000.0, GAINS)
    held = judgement(closed, np.array([0.5]), band=0.1, floor=None)
    assert held is not None
    assert held.threshold == CLOSED
    assert step(closed, reading(volume=0), GAINS).state.quantile == 1
    opened = retarget(closed, 100.0, 1000.0, GAINS)
    assert 1 - opened.quantile == pytest.approx(0.1)


def test_a_new_target_changes_the_share_in_proportion() -> None:
    doubled = retarget(state(), 200.0, 1000.0, GAINS)
    assert 1 - doubled.quantile == pytest.approx(0.2)
    assert 1 - step(doubled, reading(volume=100), GAINS).state.quantile == pytest.approx(0.2)


@given(
    st.floats(0, 1), st.floats(0, 1), st.floats(1e-3, 1), st.integers(0, 10**6),
    st.floats(0.01, 1e6), st.floats(-20, 5), st.integers(0, 100),
)  # fmt: skip
def test_a_step_is_bounded_whatever_it_sees(
    paced: float, progress: float, burst: float, volume: int, target: float, integral: float,
    offers: int,
) -> None:  # fmt: skip
    """The quantile stays one, and at a limit the integral does not wind up further."""
    seen = reading(
        paced=paced, progress=progress, burst=burst, volume=volume, offer_count=offers
    )  # fmt: skip
    before = state(integral=integral, target=target)
    made = step(before, seen, GAINS).state
    assert 0 <= made.quantile <= 1
    assert math.isfinite(made.integral)
    if made.quantile == 0 and made.error > 0:
        assert made.integral == before.integral


def test_thresholds_are_read_off_each_users_newest_offer() -> None:
    batches = [OfferBatch(MONDAY, 2, [1, 2], [0.1, 0.2]), OfferBatch(MONDAY, 2, [2, 3], [0.9, 0.3])]
    utilities = RecentOffers(batches).ahead(MONDAY + timedelta(hours=1))
    assert sorted(utilities) == [0.1, 0.3, 0.9]
    held = judgement(state(quantile=0.5), utilities, band=0.1, floor=None)
    assert held is not None
    assert held.threshold == 0.3
    assert held.band_low <= held.threshold <= held.band_high


def test_what_came_a_day_ago_in_the_next_hours_tells_what_comes() -> None:
    """Twelve batches of a hundred an hour apart, each with its own utility, for two days."""
    batches = [
        OfferBatch(MONDAY + timedelta(hours=2 * hour), 100, [hour], [float(hour % 12)])
        for hour in range(24)
    ]
    known = RecentOffers(batches)
    now = MONDAY + timedelta(hours=46, minutes=30)
    assert known.ahead(now).tolist() == [0.0, 1.0, 2.0]
    assert known.since(MONDAY + timedelta(hours=46)) == 100
    first_day = RecentOffers(batches[:12])
    assert len(first_day.ahead(MONDAY + timedelta(hours=23))) == 12
    assert len(RecentOffers().ahead(now)) == 0


def test_without_offers_there_is_no_threshold_and_the_floor_holds() -> None:
    assert judgement(state(), np.zeros(0), band=0.1, floor=None) is None
    assert judgement(state(), np.array([math.nan]), band=0.1, floor=None) is None
    held = judgement(state(quantile=0.0), np.array([-5.0, -1.0]), band=0.1, floor=-2.0)
    assert held is not None
    assert held.threshold == -2.0


def test_a_share_below_one_of_the_known_offers_lies_beyond_the_largest() -> None:
    """A cell of ten users closes as well as a large one, and thresholds rise without a gap."""
    known = np.linspace(0.1, 1.0, 10)
    thresholds = []
    for share in (0.3, 0.2, 0.092, 0.09, 0.05, 0.001):
        held = judgement(state(quantile=1 - share), known, band=0.1, floor=None)
        assert held is not None
        assert held.band_low <= held.threshold <= held.band_high
        thresholds.append(held.threshold)
    assert thresholds == sorted(thresholds)
    assert 0.98 < thresholds[2] <= 1.0 < thresholds[3] < 1.02
    alike = judgement(state(quantile=0.999), np.full(10, 0.5), band=0.1, floor=None)
    assert alike is not None
    assert alike.threshold > 0.5


def test_a_cell_with_few_offers_is_paced_as_its_channel() -> None:
    channel, own = np.zeros(BINS), np.zeros(BINS)
    channel[[72, 216]] = 500
    own[216] = 3
    mixed = curve(np.zeros(BINS), [with_channel(own, channel)])
    assert mixed.at(MONDAY + timedelta(hours=12)) == pytest.approx(15 / 33)
    own[216] = 3000
    alone = curve(np.zeros(BINS), [with_channel(own, channel)])
    assert alone.at(MONDAY + timedelta(hours=12)) < 0.01


def test_the_curve_follows_slots_until_days_were_seen() -> None:
    slots = slots_by_bin([SlotHours("UTC", (6, 18), 10)], MONDAY.date())
    assert curve(slots, []).at(MONDAY + timedelta(hours=12)) == pytest.approx(0.5)
    assert curve(np.zeros(BINS), []).at(MONDAY + timedelta(hours=6)) == pytest.approx(0.25)
    morning = np.zeros(BINS)
    morning[bin_of(MONDAY + timedelta(hours=6))] = 100
    learned = curve(slots, [morning] * 3)
    assert learned.at(MONDAY + timedelta(hours=12)) > 0.9


@given(st.dictionaries(st.integers(0, BINS - 1), st.floats(0, 1e6)), st.floats(0, 86399))
def test_the_curve_rises_from_0_to_1(counts: dict[int, float], second: float) -> None:
    slots = np.zeros(BINS)
    slots[list(counts)] = list(counts.values())
    found = curve(slots, [])
    moment = MONDAY + timedelta(seconds=second)
    assert found.at(MONDAY) == 0
    assert 0 <= found.at(moment) <= 1
    assert found.at(moment) <= found.at(MONDAY + timedelta(hours=23, minutes=59, seconds=59)) + 1e-9
    assert flat().at(MONDAY + timedelta(hours=12)) == pytest.approx(0.5)


@dataclass
class Stream:
    """Users with three slots a day by their own clocks, and a cell that sends what passes."""

    users: int
    zones: tuple[float, ...] = (0.45, 0.3, 0.1, 0.15)
    cap: int = 2
    seed: int = 0
    scale: Callable[[int], float] = lambda _: 1.0
    target_on: Callable[[int], float] = lambda _: 100.0
    morning: float = 0.0
    """By how much the first slot of the day is worth more."""
    lost: float = 0.0
    """Share of what passes that another channel takes."""
    expected: float = 1.0
    """The first guess of the offers, over the truth."""
    volumes: list[float] = field(default_factory=list)

    def run(self, days: int) -> list[float]:
        """Volume over target, by day."""
        rng = np.random.default_rng(self.seed)
        zones = rng.choice(len(ZONES), self.users, p=self.zones)
        taste = rng.normal(0, 1, self.users)
        groups = [
            SlotHours(name, HOURS, float((zones == index).sum()))
            for index, name in enumerate(ZONES)
        ]
        held: Judgement | None = None
        latest: list[OfferBatch] = []
        sends: dict[int, list[datetime]] = {}
        seen: list[Floats] = []
        guess = self.users * len(HOURS) * self.expected
        now = start(self.target_on(0), guess, GAINS)
        for day in range(days):
            pacing = curve(slots_by_bin(groups, _day(day)), seen)
            due = [slots_by_bin([SlotHours(name, HOURS, 1.0)], _day(day)) for name in ZONES]
            volume, offers, last, since = 0, np.zeros(BINS), 0.0, 0
            now = retarget(now, self.target_on(day), guess, GAINS)
            for place in range(BINS):
                moment = datetime.combine(_day(day), time(), UTC) + place * BIN
                if latest:
                    held, now = self._tick(now, pacing, moment, volume, last, since, latest)
                    last, since = pacing.at(moment), 0
                for zone in range(len(ZONES)):
                    if not due[zone][place]:
                        continue
                    asked = [
                        user
                        for user in np.flatnonzero((zones == zone) & (rng.random(self.users) < 0.8))
                        if len(_within_a_day(sends.get(user, []), moment)) < self.cap
                    ]
                    local = moment.astimezone(ZoneInfo(ZONES[zone]))
                    morning = self.morning if local.hour == HOURS[0] else 0.0
                    worth = taste[asked] + rng.normal(0, 0.5, len(asked)) + morning
                    worth *= self.scale(day)
                    latest.append(OfferBatch(moment, len(asked), asked, worth.tolist()))
                    held = held or judgement(now, worth, band=0.1, floor=None)
                    assert held is not None
                    kept = rng.random(len(asked)) >= self.lost
                    passing = [
                        user
                        for user, value, won in zip(asked, worth, kept, strict=True)
                        if won and value >= held.threshold
                    ]
                    for user in passing:
                        sends[user] = [*_within_a_day(sends.get(user, []), moment), moment]
                    volume += len(passing)
                    since += len(asked)
                    offers[place] += len(asked)
            seen = [*seen, offers][-7:]
            self.volumes.append(volume / self.target_on(day))
        return self.volumes

    def _tick(
        self, now: State, pacing: Curve, moment: datetime, volume: int, last: float,
        since: int, latest: list[OfferBatch],
    ) -> tuple[Judgement | None, State]:  # fmt: skip
        paced = pacing.at(moment)
        seen = Reading(
            now=moment,
            paced=paced,
            progress=max(0.0, paced - last),
            burst=pacing.burst,
            volume=volume,
            offer_count=since,
            expected_offers=self.users * len(HOURS) * self.expected,
        )
        made = step(now, seen, GAINS).state
        latest[:] = [one for one in latest if one.time > moment - READ_BACK]
        ahead = RecentOffers(latest).ahead(moment)
        return judgement(made, ahead, band=0.1, floor=None), made


def _day(number: int) -> date:
    return MONDAY.date() + timedelta(days=number)


def _within_a_day(times: list[datetime], moment: datetime) -> list[datetime]:
    return [sent for sent in times if sent > moment - timedelta(hours=24)]


@pytest.mark.parametrize("expected", [0.3, 1.0, 3.0])
@pytest.mark.parametrize(("users", "target"), [(943, 900.0), (300, 100.0)])
def test_volume_is_on_target_from_the_third_day(users: int, target: float, expected: float) -> None:
    """From a cold start, with a first guess of the offers off by a factor of three each way."""
    stream = Stream(users, target_on=lambda _: target, expected=expected)
    volumes = stream.run(4)
    assert volumes[0] == pytest.approx(1, abs=0.3)
    assert volumes[2:] == pytest.approx([1, 1], abs=0.1)


def test_a_change_of_the_scores_scale_is_taken_within_a_day() -> None:
    """Thresholds are read off the day before, so on the day itself only the error corrects."""
    stream = Stream(943, target_on=lambda _: 500.0, scale=lambda day: 3.0 if day >= 3 else 1.0)
    volumes = stream.run(6)
    assert volumes[3] == pytest.approx(1, abs=0.2)
    assert [volumes[2], *volumes[4:]] == pytest.approx([1] * 3, abs=0.15)


def test_what_another_channel_takes_is_made_up_for() -> None:
    """Push and e-mail compete for a slot, so less is sent than passes: the integral learns it."""
    volumes = Stream(943, target_on=lambda _: 300.0, lost=0.6).run(5)
    assert volumes[2:] == pytest.approx([1] * 3, abs=0.06)


def test_utilities_that_differ_by_the_hour_do_not_mislead_it() -> None:
    """Mornings are worth a standard deviation more: what comes next is judged by its own hours."""
    volumes = Stream(943, target_on=lambda _: 300.0, morning=1.0, lost=0.3).run(5)
    assert volumes[1:] == pytest.approx([1] * 4, abs=0.1)


def test_users_who_come_and_go_are_followed() -> None:
    """Half as many offers are expected from half as many users, and the same target."""
    fewer = step(state(), reading(expected_offers=500.0), GAINS).state
    assert 1 - fewer.quantile == pytest.approx(0.2)


def test_a_new_target_is_met_on_its_second_day() -> None:
    stream = Stream(943, target_on=lambda day: 300.0 if day < 3 else 600.0)
    volumes = stream.run(6)
    assert volumes[2] == pytest.approx(1, abs=0.1)
    assert volumes[4:] == pytest.approx([1, 1], abs=0.1)


def test_users_of_one_time_zone_do_not_make_it_swing() -> None:
    """A third of the day comes at once: the gains come down."""
    stream = Stream(943, zones=(1.0, 0.0, 0.0, 0.0), target_on=lambda _: 900.0)
    assert stream.run(6)[3:] == pytest.approx([1] * 3, abs=0.12)


def test_a_target_out_of_reach_sends_all_there_is() -> None:
    stream = Stream(100, target_on=lambda _: 1e6)
    volumes = stream.run(2)
    assert volumes[1] * 1e6 >= 0.9 * 100
