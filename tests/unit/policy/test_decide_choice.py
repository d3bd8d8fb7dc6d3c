"""Arms, propensities and draws: exact, and as frequent as they say."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy import choice
from services.policy.arms import ARMS, Arm, ArmShares, draw_arm, posterior, revealed
from services.policy.batch import Caps
from services.policy.choice import NO_SEND, Exploration, Options
from services.policy.deciding import decide
from services.policy.rules.removal import KEPT
from services.policy.settings import LEAST_SHARE
from tests.unit.policy.decided import NOW, events, policy, slot, user

SHARES = ArmShares(0.2, 0.15, 0.1)
EXPLORATION = Exploration(threshold_share=0.4, swap_share=0.3, swap_events=3)


@st.composite
def options(draw: st.DrawFn) -> Options:
    count = draw(st.integers(1, 12))
    utility = draw(st.lists(st.floats(-2, 2), min_size=count, max_size=count))
    threshold = draw(st.floats(-1, 1))
    band = draw(st.floats(0, 1))
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    return Options(
        utility=utility,
        margin=[value - threshold for value in utility],
        in_band=[abs(value - threshold) <= band for value in utility],
        column=draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)),
        fallback=draw(flags),
        ready=draw(st.booleans()),
    )


def _share(most: float) -> st.SearchStrategy[float]:
    """What the settings allow."""
    return st.just(0.0) | st.floats(LEAST_SHARE, most)


shares = st.builds(ArmShares, *[_share(0.33)] * 3)
explorations = st.builds(Exploration, _share(0.99), _share(0.99), st.integers(2, 5))


@given(options(), shares, explorations, st.lists(st.floats(0, 1, exclude_max=True), max_size=6))
def test_invariant_6_propensities_sum_to_1(
    given_options: Options, arms: ArmShares, exploration: Exploration, marks: list[float]
) -> None:
    """At every decision of a day, for whatever arm the user has."""
    by_arm = choice.all_atoms(given_options, exploration)
    count = len(given_options.utility)
    for arm, prior in zip(ARMS, arms.priors(), strict=True):
        known: tuple[float, ...] = ()
        if prior == 0:
            continue
        for mark in marks:
            overall, under = choice.propensities(by_arm, posterior(arms.priors(), known), count)
            assert overall.sum() == pytest.approx(1)
            assert under.sum(axis=1) == pytest.approx(np.ones(len(ARMS)))
            atom = choice.draw(by_arm[ARMS.index(arm)], mark)
            assert 0 < overall[atom.option] <= 1 + 1e-12
            known = revealed(known, under[:, atom.option].tolist())


@given(options(), explorations)
def test_the_policy_never_sends_below_the_threshold_but_to_explore(
    given_options: Options, exploration: Exploration
) -> None:
    for atom in choice.atoms(Arm.POLICY, given_options, exploration):
        if atom.reason in ("ABOVE_THRESHOLD", "EXPLORE_EVENT"):
            assert given_options.margin[atom.option] >= 0
        if atom.reason == "EXPLORE_THRESHOLD" and atom.option != NO_SEND:
            assert given_options.in_band[atom.option]


@given(st.lists(st.floats(0.01, 1), min_size=4, max_size=4), st.integers(1, 60))
def test_long_days_do_not_underflow(taken: list[float], decisions: int) -> None:
    known: tuple[float, ...] = ()
    for _ in range(decisions):
        known = revealed(known, taken)
    assert max(known) == 1
    assert sum(posterior(SHARES.priors(), known)) == pytest.approx(1)


def test_arms_are_drawn_with_their_shares() -> None:
    day = date(2026, 1, 5)
    drawn = Counter(draw_arm(SHARES, "salt", f"user-{n}", day) for n in range(20_000))
    for arm, share in zip(ARMS, SHARES.priors(), strict=True):
        assert drawn[arm] / 20_000 == pytest.approx(share, abs=4 * (share / 20_000) ** 0.5)


def test_an_arm_holds_for_the_day_and_not_for_the_next() -> None:
    days = [date(2026, 1, 5) + timedelta(days=n) for n in range(200)]
    arms = [draw_arm(SHARES, "salt", "ann", day) for day in days]
    assert arms == [draw_arm(SHARES, "salt", "ann", day) for day in days]
    assert len(set(arms)) == len(ARMS)


@pytest.mark.parametrize("seed", [0, 1])
def test_logged_propensities_are_the_frequencies(seed: int) -> None:
    """Monte Carlo over salts: two decisions of one day, each option as often as was said.

    The second's propensities are compared among the days on which the first chose the same, for
    they depend on what it revealed of the arm.
    """
    first_said: dict[str, float] = {}
    second_said: dict[tuple[str, str], float] = {}
    counts: Counter[tuple[str, str]] = Counter()
    days = 1500
    for number in range(days):
        ann = user()
        rule = policy(
            threshold=0.3,
            band=0.25,
            shares=SHARES,
            exploration=EXPLORATION,
            caps=Caps(per_day=9, per_channel={}, gap_seconds=0),
            salt=f"{seed}-{number}",
        )
        one = decide([slot(events("a", "b", "c"))], {"ann": ann}, rule).decisions[0]
        again = slot(events("x", "y"), time=NOW + timedelta(hours=1))
        two = decide([again], {"ann": ann}, rule).decisions[0]
        names = tuple(
            f"{made.event.event_id}{made.channel}" if made.event else "" for made in (one, two)
        )
        assert len(names) == 2
        first_said[names[0]] = one.propensity
        known = second_said.setdefault((names[0], names[1]), two.propensity)
        assert known == pytest.approx(two.propensity)
        counts[names[0], names[1]] += 1
    for name, said in first_said.items():
        seen = sum(count for key, count in counts.items() if key[0] == name)
        assert seen / days == pytest.approx(said, abs=4.5 * (said * (1 - said) / days) ** 0.5)
    for (name, then), said in second_said.items():
        before = sum(count for key, count in counts.items() if key[0] == name)
        slack = 4.5 * (said * (1 - said) / before) ** 0.5 + 3 / before
        assert counts[name, then] / before == pytest.approx(said, abs=slack)


def test_the_explanation_tells_the_same_propensities() -> None:
    rule = policy(threshold=0.3, band=0.25, shares=SHARES, exploration=EXPLORATION)
    made = decide([slot(events("a", "b"))], {"ann": user()}, rule).decisions[0]
    assert made.explanation is not None
    left = made.explanation.options[made.explanation.options["removed_by"] == KEPT]
    total = left["propensity"].sum() + made.explanation.no_send_propensity
    assert total == pytest.approx(1)
    chosen = {
        (made.explanation.event_ids[row["event"]], int(row["channel"])): row["propensity"]
        for row in left
    }
    expected = made.explanation.no_send_propensity
    if made.event is not None:
        expected = chosen[made.event.event_id, made.channel]
    assert expected == pytest.approx(made.propensity)


def test_swapped_events_pass_the_threshold_too() -> None:
    found = {
        made.event.event_id
        for number in range(300)
        for made in decide(
            [slot(events("a", "b", "c", "d"), scores=[(0.5, 0, 0), (0.4, 0, 0), (0.1, 0, 0)] * 1
             + [(0.45, 0, 0)])],
            {"ann": user()},
            policy(threshold=0.3, exploration=Exploration(0.0, 0.9, 3), salt=str(number)),
        ).decisions
        if made.event is not None
    }  # fmt: skip
    assert found == {"a", "b", "d"}
