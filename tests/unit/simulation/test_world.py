"""The world: what is history, what is truth, and that they never meet."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.made_data import made_movielens
from simulation.movielens import Item, MovieLens, Ratings, User
from simulation.recipients import favourite_hours, reaches
from simulation.world import (
    BOOTSTRAP_CUT,
    REPLAY_CUT,
    Cut,
    World,
    first_seen,
    interaction_weight,
    item_created,
    make_world,
    sittings,
    some_users,
)

DAY = timedelta(days=1)


def test_history_and_truth_share_a_users_ratings(data: MovieLens, world: World) -> None:
    assert len(world.history) == 40 * 14
    assert np.count_nonzero(world.truth) == 40 * 6
    assert not (world.seen & (world.truth > 0)).any()


def test_truth_is_later_than_history(data: MovieLens, world: World) -> None:
    for user in range(len(data.users)):
        own = data.ratings.user == user
        held = np.isin(data.ratings.item[own], np.flatnonzero(world.truth[user]))
        times = data.ratings.time[own]
        assert times[held].min() >= times[~held].max()


def test_the_training_world_never_sees_the_replays_truth(data: MovieLens, world: World) -> None:
    training = make_world(data, BOOTSTRAP_CUT)
    known = training.seen | (training.truth > 0)
    assert not (known & (world.truth > 0)).any()
    assert (known <= world.seen).all()


def test_the_training_worlds_history_is_drawn_from_early_and_late_ratings(data: MovieLens) -> None:
    training = make_world(data, BOOTSTRAP_CUT)
    assert not (training.seen & (training.truth > 0)).any()
    places = []
    for user in range(len(data.users)):
        own = np.flatnonzero(data.ratings.user == user)
        in_order = data.ratings.item[own[np.argsort(data.ratings.time[own], kind="stable")]]
        assert not (training.seen[user] | (training.truth[user] > 0))[in_order[14:]].any()
        places.append(training.seen[user][in_order[:14]])
    assert np.sum(places, axis=1).tolist() == [8] * len(data.users)
    assert all(0 < share < 1 for share in np.mean(places, axis=0))


def test_times_move_by_whole_days_to_the_day_before_the_start(data: MovieLens) -> None:
    start = datetime(2026, 1, 5, tzinfo=UTC)
    everything = make_world(data, Cut(1.0, 1.0), start)
    last = datetime.fromtimestamp(int(everything.history.time.max()), UTC)
    assert start - DAY <= last < start
    moved = int(everything.history.time.max()) - int(data.ratings.time.max())
    assert moved % 86_400 == 0


@given(
    stars=st.lists(st.integers(1, 5), min_size=1, max_size=40),
    seconds=st.data(),
)
def test_every_rating_is_history_or_truth_exactly_once(
    stars: list[int], seconds: st.DataObject
) -> None:
    times = seconds.draw(st.lists(st.integers(0, 10), min_size=len(stars), max_size=len(stars)))
    count = len(stars)
    ratings = Ratings(
        np.zeros(count, np.int32),
        np.arange(count, dtype=np.int32),
        np.array(stars, np.int8),
        np.array(times, np.int64),
    )
    data = MovieLens((_user(),), tuple(_item(row) for row in range(count)), ratings)
    world = make_world(data, REPLAY_CUT)
    both = world.seen[0].astype(int) + (world.truth[0] > 0)
    assert (both == 1).all()
    assert world.seen.sum() == int(count * 0.7)


def test_sittings_are_split_at_pauses(data: MovieLens, world: World) -> None:
    found = sittings(world)
    per_user = np.bincount([sitting.user for sitting in found])
    assert (per_user == 2).all()
    assert all(sitting.end >= sitting.start for sitting in found)


def test_old_sittings_are_left_out(world: World) -> None:
    since = world.start - 64 * DAY
    recent = sittings(world, since)
    assert 0 < len(recent) < len(sittings(world))
    assert all(sitting.end >= since for sitting in recent)


def test_some_users_keeps_their_ratings(data: MovieLens) -> None:
    few = some_users(data, 7, seed=3)
    assert len(few.users) == 7
    assert len(few.ratings) == 7 * 20
    for row, user in enumerate(few.users):
        before = data.users.index(user)
        items = data.ratings.item[data.ratings.user == before]
        assert (few.ratings.item[few.ratings.user == row] == items).all()
    assert some_users(data, 7, seed=3).users == few.users
    assert some_users(data, None, seed=3) is data


def test_nothing_is_younger_than_its_first_rating(world: World) -> None:
    created = [moment.timestamp() for moment in item_created(world, 1)]
    assert all(
        created[item] <= time
        for item, time in zip(world.history.item, world.history.time, strict=True)
    )
    joined = [moment.timestamp() for moment in first_seen(world)]
    assert all(
        joined[user] <= time
        for user, time in zip(world.history.user, world.history.time, strict=True)
    )


def test_interaction_weights() -> None:
    assert [interaction_weight(stars) for stars in range(1, 6)] == [-2.0, -1.0, 0.5, 1.0, 2.0]


def _at(*hours: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    first = int(datetime(2025, 12, 1, tzinfo=UTC).timestamp())
    return np.array([first + hour * 3600 for hour in hours], np.int64)


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ((), ()),
        ((3, 4, 23), ()),
        ((10, 10, 11, 18), (10, 18)),
        ((20, 20, 19), (9, 20)),
        ((9,), (9, 19)),
    ],
)
def test_favourite_hours(hours: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert favourite_hours(_at(*hours), "UTC") == expected


def test_favourite_hours_are_local() -> None:
    assert favourite_hours(_at(15, 23), "America/New_York") == (10, 18)


def test_reach_follows_the_seed(tmp_path: Path) -> None:
    world = make_world(made_movielens(tmp_path, users=300, items=20, each=4), REPLAY_CUT)
    found = reaches(world, seed=1)
    assert found == reaches(world, seed=1)
    assert 0.78 < np.mean([reach.push for reach in found]) < 0.92
    assert 0.5 < np.mean([reach.email for reach in found]) < 0.7
    assert [reach.push for reach in found] != [reach.push for reach in reaches(world, seed=2)]


def _user() -> User:
    return User("1", 30, "F", "artist", "10001", "America/New_York")


def _item(row: int) -> Item:
    return Item(str(row), f"Film {row}", 1990, ())
