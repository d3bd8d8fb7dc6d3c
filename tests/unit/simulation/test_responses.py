"""What users do with notifications, and what the baselines would have reached."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from simulation.baselines import baselines
from simulation.responses import Reaction, Responder
from simulation.results import SendRecord, lifts, open_rates, wilson
from simulation.world import World


def _item_with(world: World, user: int, low: int, high: int) -> int:
    stars = world.truth[user]
    return int(np.flatnonzero((stars >= low) & (stars <= high))[0])


@pytest.mark.parametrize(
    ("low", "high", "reaction"),
    [(4, 5, Reaction.OPEN), (1, 3, Reaction.DISMISS), (0, 0, Reaction.IGNORE)],
)
def test_reaction_follows_the_truth(world: World, low: int, high: int, reaction: Reaction) -> None:
    user = next(u for u in range(40) if ((world.truth[u] > 0) & (world.truth[u] <= 3)).any())
    response = Responder(world, 1).respond(user, _item_with(world, user, low, high), "d1")
    assert response.reaction is reaction
    assert timedelta(minutes=2) <= response.delay <= timedelta(minutes=40)


def test_an_item_is_opened_once(world: World) -> None:
    responder = Responder(world, 1)
    item = _item_with(world, 0, 4, 5)
    assert responder.respond(0, item, "d1").reaction is Reaction.OPEN
    assert responder.respond(0, item, "d2").reaction is Reaction.IGNORE
    assert Responder(world, 1).respond(0, item, "d3").reaction is Reaction.OPEN


def _bored(world: World) -> World:
    """Everybody dislikes every item but item 0, which nobody has rated, and 1, which all like."""
    truth = np.full_like(world.truth, 2)
    truth[:, 0] = 0
    truth[:, 1] = 5
    return replace(world, truth=truth)


def _disabled(world: World, items: list[int], users: int = 40) -> list[list[bool]]:
    responder = Responder(_bored(world), 7)
    return [
        [responder.respond(user, item, place).disables for place, item in enumerate(items)]
        for user in range(users)
    ]


def test_about_half_turn_off_the_channel_at_the_third_dismissal(world: World) -> None:
    outcomes = _disabled(world, [5, 6, 7])
    assert not any(first or second for first, second, _ in outcomes)
    assert 10 < sum(third for *_, third in outcomes) < 30
    assert outcomes == _disabled(world, [5, 6, 7])


def test_an_ignored_message_doesnt_break_the_row_and_an_open_does(world: World) -> None:
    assert any(outcome[-1] for outcome in _disabled(world, [5, 6, 0, 7]))
    assert not any(any(outcome) for outcome in _disabled(world, [5, 6, 1, 7, 8]))


def test_counting_starts_anew_after_three(world: World) -> None:
    outcomes = _disabled(world, [5, 6, 7, 8, 9, 10])
    assert not any(outcome[3] or outcome[4] for outcome in outcomes)
    assert any(outcome[5] for outcome in outcomes)


def test_random_baseline_is_the_share_of_liked_among_unseen(world: World) -> None:
    found = baselines(world)
    liked = (world.truth[3] >= 4).sum()
    assert found.random[3] == pytest.approx(liked / (80 - 14))
    assert found.random_rate([3, 3]) == pytest.approx(liked / (80 - 14))
    assert found.random_rate([]) == 0.0


def test_random_baseline_agrees_with_drawing(world: World) -> None:
    user = 3
    random = np.random.default_rng(0)
    unseen = np.flatnonzero(~world.seen[user])
    draws = world.truth[user, random.choice(unseen, 20_000)] >= 4
    assert draws.mean() == pytest.approx(baselines(world).random[user], abs=0.01)


def test_popular_baseline_takes_the_next_most_liked_unseen_item(world: World) -> None:
    found = baselines(world)
    likes = np.zeros(80)
    np.add.at(likes, world.history.item[world.history.stars >= 4], 1)
    unseen = [item for item in np.argsort(-likes, kind="stable") if not world.seen[5, item]]
    expected = [bool(world.truth[5, item] >= 4) for item in unseen[:10]]
    assert found.popular_opens([(5, earlier) for earlier in range(10)]) == expected


def _send(user: int, earlier: int, opened: bool) -> SendRecord:
    return SendRecord(0, user, 0, "push", "policy", earlier, opened, False, False)


def test_open_rates_count_and_compare(world: World) -> None:
    sends = [_send(user, place, place == 0) for user in range(10) for place in range(2)]
    rates = open_rates(sends, baselines(world))
    assert (rates.sent, rates.opened) == (20, 10)
    assert rates.rate.low < 0.5 < rates.rate.high
    nothing = open_rates([], baselines(world))
    assert (nothing.rate.value, nothing.rate.high, nothing.most_popular) == (0.0, 1.0, 0.0)


def test_wilson_interval() -> None:
    """Against the interval published for 9 of 10 (Brown, Cai and DasGupta, 2001, formula 4)."""
    rate = wilson(9, 10)
    assert (rate.low, rate.high) == (
        pytest.approx(0.5958, abs=1e-4),
        pytest.approx(0.9821, abs=1e-4),
    )


def test_lift_is_one_for_the_baseline_itself(world: World) -> None:
    reference = baselines(world)
    pairs = [(user, place) for user in range(40) for place in range(5)]
    opened = reference.popular_opens(pairs)
    sends = [_send(u, p, o) for (u, p), o in zip(pairs, opened, strict=True)]
    by_name = {lift.baseline: lift for lift in lifts(sends, reference, seed=1)}
    popular = by_name["most_popular"]
    assert (popular.value, popular.low, popular.high) == (1.0, 1.0, 1.0)
    random = by_name["random_item"]
    assert random.low < random.value < random.high
    assert lifts([], reference, seed=1) == []
