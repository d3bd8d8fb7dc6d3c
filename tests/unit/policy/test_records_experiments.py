"""Experiments: room in their layers, and what they mean for a user."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy.experiments import Experiment, Experiments, Group, LayerFull
from services.runtime.experiments import ExperimentError

USERS = [f"user-{number}" for number in range(4000)]


def experiment(
    name: str = "caps", share: float = 0.5, layer: str = "l", **overrides: str
) -> Experiment:
    groups = (Group("control", 1, {}), Group("treated", 1, overrides))
    return Experiment(name, layer, share, groups, active=True)


def test_nobody_is_in_an_experiment_when_there_is_none() -> None:
    membership = Experiments().membership("u")

    assert membership.groups == {}
    assert membership.threshold_group == "default"
    assert not membership.holdout


def test_shares_and_overrides_arrive_at_the_users() -> None:
    setup = Experiments().with_put(
        experiment(share=0.3, cap_per_day="5", copy_style="warm", model_version="m2")
    )
    members = [setup.membership(user) for user in USERS]
    inside = [one for one in members if one.groups]
    treated = [one for one in inside if one.groups["caps"] == "treated"]

    assert len(inside) / len(USERS) == pytest.approx(0.3, abs=0.03)
    assert len(treated) / len(inside) == pytest.approx(0.5, abs=0.05)
    assert {(one.cap_per_day, one.copy_style, one.model_version) for one in treated} == {
        (5, "warm", "m2")
    }
    assert all(one.cap_per_day is None for one in members if one not in treated)


def test_a_holdout_group_holds_its_users_out() -> None:
    group = Group("held", 1, {}, holdout=True)
    setup = Experiments().with_put(Experiment("hold", "h", 0.1, (group,), active=True))

    share = sum(setup.membership(user).holdout for user in USERS) / len(USERS)

    assert share == pytest.approx(0.1, abs=0.02)


def test_sends_are_limited_alike_without_the_experiments_that_dont_limit_them() -> None:
    held = Experiment("hold", "h", 0.1, (Group("held", 1, {}, holdout=True),), active=True)
    setup = Experiments().with_put(held)
    for one in (
        experiment("caps", 0.4, cap_per_day="1"),
        experiment("warm", 0.5, copy_style="warm"),
        experiment("model", 0.5, "other", model_version="m2"),
    ):
        setup = setup.with_put(one)
    limiting = setup.limiting()

    assert limiting.by_name.keys() == {"caps", "hold"}
    limits = {(one.cap_per_day, one.holdout) for one in map(limiting.membership, USERS)}
    assert limits == {(None, False), (1, False), (None, True), (1, True)}
    for user in USERS:
        both = setup.membership(user), limiting.membership(user)
        assert len({(each.cap_per_day, each.holdout) for each in both}) == 1


def test_what_doesnt_limit_sends_means_the_same_for_everyone() -> None:
    setup = Experiments().with_put(experiment("warm", copy_style="warm"))
    stopped = Experiment("a", "l", 0.2, (Group("g", 1, {"cap_per_day": "1"}),), active=False)

    assert setup.of_everyone is None
    everyone = setup.with_put(stopped).limiting().of_everyone
    assert everyone is not None
    assert (everyone.cap_per_day, everyone.holdout) == (None, False)


def test_a_layer_takes_no_more_than_all_of_it() -> None:
    setup = Experiments().with_put(experiment("a", 0.6))

    with pytest.raises(LayerFull):
        setup.with_put(experiment("b", 0.5))
    assert setup.with_put(experiment("b", 0.5, layer="other")).version == 2
    assert setup.with_put(experiment("b", 0.4)).version == 2


def test_a_stopped_experiment_leaves_its_room() -> None:
    setup = Experiments().with_put(experiment("a", 0.6))
    stopped = Experiment("a", "l", 0.6, setup.by_name["a"].groups, active=False)

    after = setup.with_put(stopped).with_put(experiment("b", 1.0))

    assert {tuple(after.membership(user).groups) for user in USERS} == {("b",)}


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.floats(0.01, 1), st.booleans()), max_size=8
    )
)  # fmt: skip
def test_changing_one_experiment_moves_no_user_of_another(
    changes: list[tuple[str, float, bool]],
) -> None:
    setup = Experiments()
    for name, share, active in changes:
        change = Experiment(name, "l", share, (Group("g", 1, {}),), active)
        try:
            after = setup.with_put(change)
        except LayerFull:
            continue
        for user in USERS[:100]:
            before = {key for key in setup.membership(user).groups if key != name}
            assert before <= set(after.membership(user).groups)
            assert len(after.membership(user).groups) <= 1
        setup = after


@pytest.mark.parametrize("cap", ["-1", "1.5", "many", "", "1001", "٣"])
def test_a_cap_that_is_no_number_is_refused(cap: str) -> None:
    with pytest.raises(ExperimentError):
        Experiments().with_put(experiment(cap_per_day=cap))


def test_one_parameter_in_two_layers_is_refused() -> None:
    setup = Experiments().with_put(experiment("a", layer="one", cap_per_day="1"))

    with pytest.raises(ExperimentError):
        setup.with_put(experiment("b", layer="two", cap_per_day="2"))
