"""The known world: what happens agrees with the stated probabilities, and both with its seed."""

from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from services.ranker.features import HEADS, Head
from services.ranker.training.log import MASKED
from services.ranker.training.logistic import log_losses
from simulation.known_world import offers, people
from simulation.known_world.chances import answer_delays, answered_within, chances
from simulation.known_world.figures import figures
from simulation.known_world.making import WorldOptions, play_world
from simulation.known_world.offers import Offers, TooFewItemsError
from simulation.known_world.parameters import WORLDS, Parameters, parameters_hash
from simulation.known_world.people import People
from simulation.known_world.play import NOTHING, Played, play
from simulation.known_world.record import Record, record
from simulation.known_world.tastes import fit
from simulation.known_world.training_log import Labelled, label
from simulation.known_world.truth import truth
from simulation.made_data import made_movielens
from simulation.movielens import MovieLens

Drawn = TypeVar("Drawn", People, Offers)
BASE = WORLDS["base"]
EVENTFUL = replace(
    BASE,
    open_logit=(-1.0, -1.0, -1.0),
    open_fatigue=0.6,
    answer_mean_min=90.0,
    push_disable=0.3,
    email_unsubscribe=0.3,
    off_fatigue=0.2,
    dislike=0.1,
    delete_per_day=0.03,
    session_sd=0.0,
    nudge=(60.0, 40.0, 20.0),
)
"""Whatever may happen happens often enough for a small test."""
OPTIONS = WorldOptions(users=640, days=5, seed=3)
COMMON = (Head.PUSH_OPEN, Head.EMAIL_CLICK, Head.INAPP_CLICK, Head.SESSION_1H, Head.SESSION_1D)

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MovieLens:
    """60 users, 240 items, 40 ratings each."""
    return made_movielens(tmp_path_factory.mktemp("ml"), users=60, items=240, each=40)


@pytest.fixture(scope="module")
def world(made: MovieLens) -> Record:
    """About 9,500 decisions with their truth."""
    return play_world(made, OPTIONS, show=False)


@pytest.fixture(scope="module")
def labelled(world: Record) -> Labelled:
    """Labels of all of them."""
    return label(world, OPTIONS, everything=True)


def _drawn(
    data: MovieLens, parameters: Parameters, count: int, days: int, seed: int = 0
) -> tuple[People, Offers]:
    random, tastes = np.random.default_rng(seed), fit(data, parameters)
    drawn = people.draw(count, days, data, tastes, parameters, random)
    slots = drawn.slots.shape[1] - 1
    return drawn, offers.draw(drawn.taste, slots, tastes, parameters, random)


def _played(
    data: MovieLens, parameters: Parameters, count: int, days: int
) -> tuple[People, Played]:
    drawn, offered = _drawn(data, parameters, count, days)
    random = np.random.default_rng(1)
    return drawn, play(drawn, chances(drawn, offered, parameters), random)


def _copied(one: Drawn, count: int) -> Drawn:
    """Each row `count` times."""
    changes: dict[str, Any] = {}
    for field in fields(one):
        value = getattr(one, field.name)
        if isinstance(value, np.ndarray):
            changes[field.name] = np.repeat(value, count, axis=0)
        elif isinstance(value, list):
            changes[field.name] = value * count
    return replace(one, **changes)


def test_what_happens_to_copies_of_one_user_is_what_was_to_be_expected(made: MovieLens) -> None:
    """Copies share state and options at the first slot and, in groups, at the third: the labels of
    all, and of each group, add up to the truth within 4.5 standard errors, for every head."""
    one, offered = _drawn(made, EVENTFUL, 1, days=1, seed=5)
    one = replace(one, push=np.ones(1, bool), email=np.ones(1, bool))
    copies = _copied(one, 2500)
    offered = _copied(offered, 2500)
    probabilities = chances(copies, offered, EVENTFUL)
    happened = play(copies, probabilities, np.random.default_rng(5))
    expected = truth(probabilities, happened, 3)
    kept = record(copies, offered, happened, expected, 3)
    found = label(kept, replace(OPTIONS, users=2500), everything=True)
    slot = (kept.decisions.time[found.row][:, None] > one.slots[0, :3]).sum(axis=1)
    groups = 0
    for column in range(len(HEADS)):
        true = kept.decisions.truth[found.row, column]
        for chosen in (slot == 0, slot == 2):
            known = chosen & ~np.isnan(true)
            equal = [known & (np.abs(true - value) < 1e-9) for value in np.unique(true[known])]
            for rows in (known, *(each for each in equal if each.sum() >= 30)):
                error = (found.labels[rows, column] - true[rows]).sum()
                assert abs(error) < 4.5 * np.sqrt((true * (1 - true))[rows].sum()), HEADS[column]
                groups += 1
    assert groups > 60


def test_labels_agree_with_the_truth_in_every_tenth(world: Record, labelled: Labelled) -> None:
    """By deciles of the truth; the standard errors take each user's decisions together."""
    for column, head in enumerate(HEADS):
        rows = np.flatnonzero(labelled.labels[:, column] != MASKED)
        true = world.decisions.truth[labelled.row[rows], column]
        left = labelled.labels[rows, column] - true
        user = world.decisions.user[labelled.row[rows]]
        tenth = np.searchsorted(np.quantile(true, np.arange(0.1, 1, 0.1)), true)
        for each in range(10):
            by_user = np.bincount(user[tenth == each], left[tenth == each])
            expected = np.bincount(user[tenth == each], (true * (1 - true))[tenth == each])
            error = np.sqrt(max((by_user**2).sum(), expected.sum()))
            assert abs(by_user.sum()) < 4 * error, (head, each)


def test_nothing_simple_is_better_than_the_truth(world: Record, labelled: Labelled) -> None:
    """Log loss of the truth against the frequencies of the log itself, over all and by channel."""
    channel = world.decisions.channel[labelled.row]
    for column, head in enumerate(HEADS):
        rows = labelled.labels[:, column] != MASKED
        y = labelled.labels[rows, column].astype(np.float64)
        true = world.decisions.truth[labelled.row[rows], column]
        means = np.bincount(channel[rows], y, 4) / np.maximum(
            np.bincount(channel[rows], None, 4), 1
        )
        for rival in (np.full(len(y), y.mean()), means[channel[rows]]):
            losses = [log_losses(y, p) for p in (true, rival)]
            gain = losses[1] - losses[0]
            if head in COMMON:
                assert gain.mean() > 0, head
            assert gain.mean() > -2 * gain.std() / np.sqrt(len(y)), head
    for each in figures(world, labelled):
        rate = np.array([each.expected_rate])
        assert each.entropy < log_losses(rate, rate)[0]


def test_truth_and_labels_are_known_for_the_same_decisions(
    world: Record, labelled: Labelled
) -> None:
    """Channel heads for their channel's sends; sessions and deletes for no-sends, too."""
    known = labelled.labels != MASKED
    assert (known == ~np.isnan(world.decisions.truth[labelled.row])).all()
    unsent = world.decisions.channel[labelled.row] == 0
    assert 0.4 < unsent.mean() < 0.6
    assert not known[unsent, :5].any()
    assert known[:, 5:].all()


def test_a_send_brings_sessions_and_tires(world: Record, labelled: Labelled) -> None:
    made = world.decisions
    sent = made.logged & (made.channel > 0)
    none = made.logged & (made.channel == 0)
    lifts = made.truth - made.unsent
    assert np.allclose(lifts[none][:, 5:], 0)
    for head in (Head.SESSION_1H, Head.APP_DELETE):
        assert (lifts[sent, HEADS.index(head)] > 0).all()
    session = labelled.labels[:, HEADS.index(Head.SESSION_1H)]
    assert session[sent[made.logged]].mean() > 2 * session[none[made.logged]].mean()


def test_tired_users_open_less_and_rest_helps(made: MovieLens) -> None:
    _, played = _played(made, WORLDS["tired"], 2000, days=4)
    sent = (played.channel != NOTHING) & (np.arange(played.here.shape[1]) >= 6)
    newest, oldest = (played.mask & 0b111), played.mask >> 3
    rates = [
        played.opened[sent & tired].mean()
        for tired in (played.mask == 0, (newest == 0) & (oldest > 0), newest == 0b111)
    ]
    assert rates[0] > 1.15 * rates[1] > 1.15 * 1.15 * rates[2]


def test_sessions_follow_the_hours_of_the_week(made: MovieLens) -> None:
    drawn, played = _played(made, BASE, 400, days=8)
    hour = played.session_time // 3600 - drawn.first_hour
    counts = np.zeros_like(drawn.hourly)
    np.add.at(counts, (played.session_user, hour), 1)
    usual = drawn.hourly / np.maximum(drawn.hourly.mean(axis=1, keepdims=True), 1e-12)
    busy, quiet = counts[usual > 2].mean(), counts[(usual < 0.5) & (usual > 0)].mean()
    assert busy > 4 * quiet


def test_altered_worlds_differ_as_they_say(made: MovieLens) -> None:
    """The tired open less, flat tastes say less, and others are up at other hours."""
    base, tired, flat, other = (
        play_world(made, WorldOptions(128, 3, 1, name), show=False)
        for name in ("base", "tired", "flat", "nocturnal")
    )
    push_open = HEADS.index(Head.PUSH_OPEN)
    assert tired.decisions.opened.sum() < base.decisions.opened.sum()
    spread = [np.nanstd(each.decisions.truth[:, push_open]) for each in (base, flat)]
    assert spread[1] < 0.8 * spread[0]
    hours = [np.bincount(each.session_time // 3600 % 24, minlength=24) for each in (base, other)]
    assert np.abs(hours[0] / hours[0].sum() - hours[1] / hours[1].sum()).sum() > 0.2
    assert len({parameters_hash(each) for each in WORLDS.values()}) == len(WORLDS)


def test_answers_come_as_soon_as_said() -> None:
    delays = answer_delays(20_000, BASE, np.random.default_rng(0))
    assert delays.min() >= 1
    assert delays.max() < 3 * 3600
    for seconds in (600, 3600, 7200):
        share = answered_within(seconds, BASE)
        assert abs((delays < seconds).mean() - share) < 4 * np.sqrt(share * (1 - share) / 20_000)
    assert answered_within(3 * 3600, BASE) == 1


def test_nothing_is_offered_to_a_user_twice(made: MovieLens) -> None:
    drawn, offered = _drawn(made, BASE, 20, days=4)
    ordered = np.sort(offered.item.reshape(20, -1), axis=1)
    assert (np.diff(ordered, axis=1) > 0).all()
    assert ((offered.score >= 0) & (offered.score <= 1)).all()
    taste = drawn.taste[np.arange(20)[:, None, None], offered.item]
    assert taste[offered.source == 0].mean() > taste[offered.source == 2].mean() + 0.3
    with pytest.raises(TooFewItemsError, match="need 360 items"):
        _drawn(made, BASE, 1, days=27)


def test_tastes_know_what_was_not_rated(made: MovieLens) -> None:
    """Users of the made data like every fourth item, whether they rated it or not."""
    tastes = fit(made, BASE)
    scores = tastes.scores(tastes.users)
    rated = np.zeros(scores.shape, np.bool_)
    rated[made.ratings.user, made.ratings.item] = True
    user, item = np.arange(1, 61)[:, None], np.arange(1, 241)[None, :]
    liked = user % 4 == item % 4
    assert scores[liked & ~rated].mean() > scores[~liked & ~rated].mean() + 0.5
    assert np.abs(scores).max() <= 3
