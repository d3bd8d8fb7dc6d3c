"""Assignment is stable, disjoint within a layer, independent across layers, and by weight."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.experiments import (
    Experiment,
    ExperimentConfig,
    ExperimentError,
    Group,
    Layer,
    assign,
)

USERS = [f"user-{number}" for number in range(20_000)]

THRESHOLDS = Experiment(
    name="thresholds",
    layer="policy",
    salt="thresholds-1",
    first_bucket=0,
    end_bucket=500,
    groups=(
        Group("control", 3.0, {"cap_per_day": 5}),
        Group("loose", 1.0, {"cap_per_day": 8}),
        Group("off", 0.0),
    ),
)
CAPS = replace(THRESHOLDS, name="caps", salt="caps-1", first_bucket=500, end_bucket=1000)
COPY = replace(
    THRESHOLDS,
    name="copy",
    layer="copy",
    salt="copy-1",
    end_bucket=1000,
    groups=(Group("plain"), Group("playful", parameters={"style": "playful"})),
)
CONFIG = ExperimentConfig(
    version=7,
    layers=(Layer("policy", "policy-layer"), Layer("copy", "copy-layer")),
    experiments=(THRESHOLDS, CAPS, COPY),
)


def test_assignment_is_stable_across_releases() -> None:
    """These are written down: a change of the hash would move every user of a live experiment."""
    found = [assign(CONFIG, user).groups for user in ("alice", "bob", "carol")]
    assert found == [
        {"thresholds": "control", "copy": "plain"},
        {"thresholds": "control", "copy": "plain"},
        {"caps": "control", "copy": "playful"},
    ]


@given(st.text(max_size=40))
def test_a_user_is_in_at_most_one_experiment_of_a_layer(user_id: str) -> None:
    groups = assign(CONFIG, user_id).groups
    assert len(groups.keys() & {"thresholds", "caps"}) == 1
    assert "copy" in groups


def test_groups_follow_the_weights() -> None:
    counts = Counter(assign(CONFIG, user).groups.get("thresholds") for user in USERS)
    in_it = counts["control"] + counts["loose"]
    assert counts["off"] == 0
    assert abs(in_it / len(USERS) - 0.5) < 5 * math.sqrt(0.25 / len(USERS))
    assert abs(counts["control"] / in_it - 0.75) < 5 * math.sqrt(0.75 * 0.25 / in_it)


def test_layers_are_independent() -> None:
    counts = Counter(
        ("thresholds" in groups, groups["copy"])
        for groups in (assign(CONFIG, user).groups for user in USERS)
    )
    inside = counts[True, "playful"] / (counts[True, "playful"] + counts[True, "plain"])
    outside = counts[False, "playful"] / (counts[False, "playful"] + counts[False, "plain"])
    assert abs(inside - outside) < 5 * math.sqrt(2 * 0.25 / (len(USERS) / 2))


def test_changing_one_experiment_moves_no_user_of_another() -> None:
    changed = replace(CONFIG, experiments=(replace(THRESHOLDS, end_bucket=100), CAPS, COPY))
    for user in USERS[:2000]:
        before, after = assign(CONFIG, user).groups, assign(changed, user).groups
        assert before.get("caps") == after.get("caps")
        assert before["copy"] == after["copy"]


def test_parameters_of_all_groups_are_merged() -> None:
    user = next(
        user
        for user in USERS
        if assign(CONFIG, user).groups == {"thresholds": "loose", "copy": "playful"}
    )
    found = assign(CONFIG, user)
    assert found.parameters == {"cap_per_day": 8, "style": "playful"}
    assert found.version == 7


@pytest.mark.parametrize(
    ("experiments", "complaint"),
    [
        ((THRESHOLDS, replace(CAPS, first_bucket=499)), "share buckets"),
        ((THRESHOLDS, replace(CAPS, name="thresholds")), "used twice"),
        ((THRESHOLDS, replace(CAPS, salt="thresholds-1")), "used twice"),
        ((replace(THRESHOLDS, layer="nowhere"),), "unknown layer"),
        ((replace(THRESHOLDS, end_bucket=1001),), "not a range"),
        ((replace(THRESHOLDS, groups=(Group("a", math.nan),)),), "weights"),
        ((replace(THRESHOLDS, groups=(Group("a", 0.0),)),), "weights"),
        ((replace(THRESHOLDS, groups=(Group("a"), Group("a"))),), "used twice"),
        (
            (THRESHOLDS, replace(COPY, groups=(Group("a", parameters={"cap_per_day": 1}),))),
            "one layer may own it",
        ),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    experiments: tuple[Experiment, ...], complaint: str
) -> None:
    with pytest.raises(ExperimentError, match=complaint):
        replace(CONFIG, experiments=experiments)
