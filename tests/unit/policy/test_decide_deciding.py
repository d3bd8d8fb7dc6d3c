"""Whole decisions, without a database: what is taken, why, and what it means for the next."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy.arms import Arm, ArmShares, draw_arm
from services.policy.batch import Batch, Caps, Slot, User
from services.policy.channel_bits import EMAIL, IN_APP, PUSH
from services.policy.controller import Gains, Judgement, start
from services.policy.deciding import Decision, Policy, decide, local_day
from services.policy.experiments import Membership
from services.policy.explanation import Explanation
from services.policy.ids import decision_id, delivery_id
from services.policy.judging import Cell, Thresholds
from services.policy.outcomes import End
from services.policy.utility import HeadWeight, Objectives, utilities, weight_matrix
from tests.unit.policy.decided import (
    CRITICAL,
    FALLBACK,
    NOW,
    RANKED,
    READY,
    events,
    later,
    policy,
    ready,
    slot,
    user,
)


def one(asked: Slot, who: User | None = None, rule: Policy | None = None) -> Decision:
    who = who or user()
    (made,) = decide([asked], {who.user_id: who}, rule or policy()).decisions
    return made


def test_the_largest_margin_is_taken_not_the_largest_utility() -> None:
    rule = policy()
    known = dict(rule.thresholds.known)
    known[Cell("default", "casual", PUSH)] = Judgement(0.45, 0.45, 0.45)
    rule = replace(rule, thresholds=replace(rule.thresholds, known=known))
    made = one(slot(events("a"), scores=[(0.5, 0.2, 0)]), rule=rule)
    assert (made.channel, made.utility) == (EMAIL, pytest.approx(0.2))


@pytest.mark.parametrize(
    ("push", "in_app", "expected"), [(0.6, 0.9, PUSH), (0.4, 0.9, IN_APP), (0.4, 0.4, 0)]
)
def test_in_app_is_taken_when_push_is_not_worth_it(
    push: float, in_app: float, expected: int
) -> None:
    asked = slot(events("a", kind=FALLBACK), scores=[(push, 0, in_app)])
    assert one(asked, rule=policy(threshold=0.5)).channel == expected


def test_a_holdout_gets_nothing_but_critical_events() -> None:
    def held() -> User:
        return user(membership=Membership(1, {"x": "off"}, holdout=True))

    made = one(slot(events("a")), held())
    assert (made.arm, made.reason, made.forced_by) == (Arm.HOLDOUT, "HOLDOUT", "holdout")
    assert (made.event, made.propensity) == (None, 1.0)
    ended = one(ready(events("m", kind=READY)[0]), held())
    assert [(end.end, end.reason) for end in ended.outcomes] == [(End.SUPPRESSED, "HOLDOUT")]
    assert one(ready(events("c", kind=CRITICAL)[0]), held()).event is not None


def test_a_ready_event_takes_its_types_first_channel() -> None:
    message = events("m", kind=READY)[0]
    made = one(ready(message))
    assert (made.channel, made.reason, made.threshold) == (EMAIL, "READY", 0.0)
    assert one(ready(message), user(muted_channels=2)).channel == PUSH


def test_a_ready_event_is_deferred_to_when_the_first_channel_is_free() -> None:
    who = user(snooze_until=NOW + timedelta(hours=2), opt_ins=1)
    made = one(ready(events("m", kind=READY)[0]), who)
    assert made.deferred
    assert (made.next_slots, made.forced_by) == ([NOW + timedelta(hours=2)], "preferences")
    assert not who.fatigue_changed
    assert not who.decided_events


def test_a_cap_is_used_up_by_sends_and_not_by_critical_ones() -> None:
    who = user()
    rule = policy(caps=Caps(1, {}, 0))
    one(ready(events("c", kind=CRITICAL)[0]), who, rule)
    assert one(slot(events("a")), who, rule).event is not None
    again = one(slot(events("b"), time=NOW + timedelta(hours=1)), who, later(rule, 1))
    assert (again.event, again.forced_by) == (None, "caps_and_gaps")
    assert [(end.end, end.reason) for end in again.outcomes] == [(End.STAYS, "CAP")]


def test_random_send_reaches_below_the_threshold_and_never_past_a_cap() -> None:
    shares = ArmShares(random_send=0.999, greedy_send=0.0, greedy_no_send=0.0)
    channels = set()
    for number in range(200):
        who = user()
        rule = policy(threshold=9.0, shares=shares, caps=Caps(1, {}, 0), salt=str(number))
        made = one(slot(events("a", "b")), who, rule)
        channels.add((made.event.event_id if made.event else "", made.channel))
        if made.event is not None:
            again = one(slot(events("c"), time=NOW + timedelta(hours=1)), who, later(rule, 1))
            assert again.event is None
    assert channels == {("", 0), ("a", PUSH), ("a", EMAIL), ("b", PUSH), ("b", EMAIL)}


def test_greedy_arms_do_the_same_all_day() -> None:
    shares = ArmShares(0.0, 0.5, 0.4)
    seen = set()
    for number in range(60):
        who, rule = user(), policy(threshold=9.0, shares=shares, salt=str(number))
        arm = draw_arm(shares, str(number), "ann", NOW.date())
        made = [
            one(slot(events(f"e{hour}"), time=NOW + timedelta(hours=hour)), who, later(rule, hour))
            for hour in (0, 4)
        ]
        assert {decision.arm for decision in made} == {arm}
        if arm is Arm.GREEDY_SEND:
            assert all(decision.event is not None for decision in made)
        else:
            assert all(decision.event is None for decision in made)
        seen.add(arm)
    assert seen == {Arm.POLICY, Arm.GREEDY_SEND, Arm.GREEDY_NO_SEND}


def test_the_arms_day_is_the_users_and_never_goes_back() -> None:
    tokyo = user(time_zone="Asia/Tokyo")
    assert local_day(NOW, tokyo) == date(2026, 1, 6)
    tokyo.fatigue.arm_day = date(2026, 1, 6)
    tokyo.time_zone = "America/New_York"
    assert local_day(NOW, tokyo) == date(2026, 1, 6)


def test_a_cold_cell_opens_at_its_share_of_the_first_offers() -> None:
    users = {f"u{n}": user(f"u{n}") for n in range(100)}
    slots = [slot(events("a"), f"u{n}", scores=[(n / 100, 0.0, 0.0)]) for n in range(100)]
    place = Cell("default", "casual", PUSH)
    state = start(60.0, 300.0, Gains())
    closed = {
        Cell("default", "casual", channel): Judgement(1e300, 1e300, 1e300)
        for channel in (EMAIL, IN_APP)
    }
    rule = replace(policy(), thresholds=Thresholds(closed, {place: state}, Judgement(0, 0, -1)))
    made = decide(slots, users, rule)
    assert sum(decision.event is not None for decision in made.decisions) == 20
    assert made.opened[place].threshold == pytest.approx(0.795)
    assert made.offers[place].count == 100


@pytest.mark.parametrize(("count", "sent"), [(100, 20), (20, 0)])
def test_a_batch_of_many_offers_is_judged_by_itself(count: int, sent: int) -> None:
    """A fifth of them is sent, though the threshold of before is out of reach; of few, nothing."""
    users = {f"u{n}": user(f"u{n}") for n in range(count)}
    slots = [slot(events("a"), f"u{n}", scores=[(n / 100, 0.0, 0.0)]) for n in range(count)]
    cells = [Cell("default", "casual", channel) for channel in (PUSH, EMAIL, IN_APP)]
    before = {place: Judgement(1e3, 1e3, 1e3) for place in cells}
    states = {cells[0]: start(60.0, 300.0, Gains())}
    made = decide(
        slots, users, replace(policy(), thresholds=Thresholds(before, states, Judgement(0, 0, -1)))
    )
    assert sum(decision.event is not None for decision in made.decisions) == sent
    assert not made.opened


def test_offers_are_what_the_rules_left_once_per_user() -> None:
    users = {
        "ann": user(),
        "bob": user("bob", opt_ins=2),
        "cid": user("cid", time_zone="Asia/Tokyo"),
        "dan": user("dan", membership=Membership(1, {}, holdout=True)),
    }
    slots = [slot(events("a", "b"), name) for name in users]
    offers = decide(slots, users, policy()).offers
    counts = {place.channel: found.count for place, found in offers.items()}
    assert counts == {PUSH: 1, EMAIL: 2}
    best = offers[Cell("default", "casual", PUSH)]
    assert best.utilities == [pytest.approx(0.5)]
    sampled = offers[Cell("default", "casual", EMAIL)].sample(1)
    assert (len(sampled.user_hashes), sampled.count) == (1, 2)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.data())
def test_a_batch_decides_as_its_slots_one_by_one(sizes: list[int], data: st.DataObject) -> None:
    """Whatever else is in the batch, for users in any state."""
    rule = policy(threshold=0.3, band=0.2, shares=ArmShares(0.2, 0.2, 0.1))
    fields = st.fixed_dictionaries(
        {
            "opt_ins": st.integers(0, 7),
            "muted_channels": st.integers(0, 7),
            "time_zone": st.sampled_from(("UTC", "Asia/Tokyo")),
            "decided_events": st.sets(st.sampled_from(("e0", "e1"))).map(frozenset),
        }
    )
    states = [data.draw(fields) for _ in sizes]

    def people() -> dict[str, User]:
        return {
            f"u{n}": user(f"u{n}", **(state | {"decided_events": set(state["decided_events"])}))
            for n, state in enumerate(states)
        }

    slots = [slot(events(*(f"e{k}" for k in range(size))), f"u{n}") for n, size in enumerate(sizes)]
    together = decide(slots, people(), rule).decisions
    for asked, made in zip(slots, together, strict=True):
        alone = decide([asked], people(), rule).decisions[0]
        assert (alone.reason, alone.channel, alone.propensity, alone.outcomes) == (
            made.reason,
            made.channel,
            made.propensity,
            made.outcomes,
        )
        assert alone.explanation is not None
        assert made.explanation is not None
        assert alone.explanation.pack() == made.explanation.pack()


def test_explanations_are_stored_and_read_back() -> None:
    who = user(opt_ins=1, decided_events={"b"})
    made = one(slot(events("a", "b")), who, policy(threshold=0.2))
    assert made.explanation is not None
    read = Explanation.unpack(made.explanation.pack())
    assert read.listed() == made.explanation.listed()
    assert read.steps() == made.explanation.steps()
    removed = {(option.event_id, option.channel): option.removed_by for option in read.listed()}
    assert removed == {
        ("a", PUSH): "",
        ("a", EMAIL): "opt_out_and_reachability",
        ("b", PUSH): "expiry_and_duplicates",
        ("b", EMAIL): "opt_out_and_reachability",
    }
    assert read.listed()[0].scores == pytest.approx((0.5, 0.25, 0.1))
    assert [step.left_count for step in read.steps()] == [4, 2, 1, 1, 1, 1, 1, 1, 1]


def test_a_ready_events_explanation_has_no_scores() -> None:
    made = one(ready(events("m", kind=READY)[0]))
    assert made.explanation is not None
    read = Explanation.unpack(made.explanation.pack())
    assert all(option.scores == () for option in read.listed())
    assert sum(option.propensity for option in read.listed()) == pytest.approx(1)


def test_ids_follow_from_what_they_are_for() -> None:
    name = decision_id(date(2026, 1, 5), "ann", "20260105T0900")
    assert name == decision_id(date(2026, 1, 5), "ann", "20260105T0900")
    assert name.startswith("20260105.")
    assert len(name) == 29
    assert name != decision_id(date(2026, 1, 5), "an", "n20260105T0900")
    assert delivery_id(name, PUSH).startswith("20260105.")
    assert delivery_id(name, PUSH) != delivery_id(name, EMAIL)


def test_heads_that_were_not_trained_weigh_nothing() -> None:
    weights = [HeadWeight(1, PUSH, 1.0), HeadWeight(4, PUSH, -10.0), HeadWeight(9, EMAIL, 5.0)]
    matrix = weight_matrix(weights, heads=[4, 1], trained=[1])
    assert matrix.tolist() == [[0, 1], [0, 0], [0, 0]]
    scores = np.array([[0.5, 0.2]], np.float32)
    objectives = Objectives({"*": weights})
    assert utilities(scores, ["core"], objectives, [4, 1], [4, 1])[0, 0] == pytest.approx(-4.8)


def test_each_segment_has_its_own_weights() -> None:
    objectives = Objectives({"core": [HeadWeight(1, PUSH, 2.0)], "*": [HeadWeight(1, PUSH, 1.0)]})
    scores = np.array([[0.5], [0.5]], np.float32)
    found = utilities(scores, ["core", "new"], objectives, [1], [1])
    assert found[:, 0].tolist() == [1.0, 0.5]


def test_columns_name_every_allowed_channel_once() -> None:
    batch = Batch(
        [slot(events("a", kind=RANKED)), slot(events("b", kind=FALLBACK), "bob")],
        {"ann": user(), "bob": user("bob")},
        policy().around,
    )
    found = [
        (batch.slots[s].user_id, batch.events[e].event_id, int(c) + 1)
        for s, e, c in zip(batch.slot, batch.event, batch.column, strict=True)
    ]
    assert found == [
        ("ann", "a", PUSH),
        ("ann", "a", EMAIL),
        ("bob", "b", PUSH),
        ("bob", "b", IN_APP),
    ]
    assert batch.options_of(1) == slice(2, 4)
