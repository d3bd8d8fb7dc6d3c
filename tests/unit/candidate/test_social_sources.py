"""Following and friend activity, against a count by hand; activity segments."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.candidate.sources import (
    Catalogue,
    Proposals,
    Relations,
    SourceInputs,
    make_sources,
    propose,
)
from services.candidate.sources.arrays import NONE, Matrix, sparse
from services.candidate.sources.friend_activity import FriendActivity
from services.candidate.sources.paths import CLOSEST, MOST_ACTORS, Paths
from tests.unit.candidate.predicted import predicted

NOW = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
USERS = ["anna", "bert", "carl", "dora", "emil"]
ITEMS = ["old", "new", "newer", "liked", "gone"]
STRENGTHS = st.sampled_from([0.1, 0.5, 1.0])


def times(*days_ago: float) -> np.ndarray:
    now = np.datetime64(NOW.replace(tzinfo=None), "us")
    return now - (np.array(days_ago) * 86_400_000_000).astype("timedelta64[us]")


@pytest.fixture
def catalogue() -> Catalogue:
    """Bert liked `liked` 1 day ago and `old` 3 days ago, carl `liked` 2 days ago, dora dislikes
    `liked`; anna knows `old`. `gone` is not live."""
    return Catalogue.build(
        USERS,
        ITEMS,
        ["bert", "bert", "carl", "dora", "anna", "bert"],
        ["liked", "old", "liked", "liked", "old", "gone"],
        [1.0, 1.0, 1.0, -1.0, 1.0, 1.0],
        item_created=[NOW - days * DAY for days in (90, 7, 1, 90, 1)],
        item_live=[True, True, True, True, False],
        interaction_times=times(1, 3, 2, 1, 50, 1),
    )


def inputs(catalogue: Catalogue, relations: Relations) -> SourceInputs:
    return SourceInputs(catalogue, predicted(catalogue), NOW, relations=relations)


def test_following_proposes_new_items_of_the_followed(catalogue: Catalogue) -> None:
    follows = (["anna", "anna", "bert"], ["bert", "studio", "nobody"], [0.5, 1.0, 1.0])
    creators = ["studio", "studio", "bert", "", "studio"]
    relations = Relations.build(catalogue, follows, creators=creators)
    (source,) = make_sources(inputs(catalogue, relations), ["following"])
    assert source.worth_asking(np.arange(5)).tolist() == [True, False, False, False, False]
    made = propose([source], np.arange(5), 10)
    assert [catalogue.item_ids[item] for item in made.items] == ["new", "newer"]
    np.testing.assert_allclose(made.scores, [1 - 7 / 14, 0.5 * (1 - 1 / 14)], rtol=1e-6)
    assert named(made, relations) == [["studio"], ["bert"]]


def test_friend_activity_names_the_friends_strongest_first(catalogue: Catalogue) -> None:
    friends = (["anna", "carl", "anna"], ["bert", "anna", "dora"], [1.0, 0.5, 1.0])
    relations = Relations.build(catalogue, friends=friends)
    (source,) = make_sources(inputs(catalogue, relations), ["friend_activity"])
    assert source.worth_asking(np.arange(5)).tolist() == [True, False, False, False, False]
    made = propose([source], np.array([0]), 10)
    assert [catalogue.item_ids[item] for item in made.items] == ["liked"]
    bert, carl = 1 - 1 / 7, 0.5 * (1 - 2 / 7)
    np.testing.assert_allclose(made.scores, [1 - (1 - bert) * (1 - carl)], rtol=1e-6)
    assert named(made, relations) == [["bert", "carl"]]


def test_friendship_goes_both_ways(catalogue: Catalogue) -> None:
    relations = Relations.build(catalogue, friends=(["anna"], ["bert"], [0.5]))
    assert relations.friends.toarray()[[0, 1], [1, 0]].tolist() == [0.5, 0.5]


def test_who_proposes_because_of_someone_comes_before_who_does_not(catalogue: Catalogue) -> None:
    relations = Relations.build(catalogue, friends=(["anna"], ["bert"], [1.0]))
    made = propose(make_sources(inputs(catalogue, relations)), np.array([0]), 10)
    liked = made.items.tolist().index(ITEMS.index("liked"))
    assert made.names[made.sources[liked]] == "friend_activity"
    assert named(made, relations)[liked] == ["bert"]
    assert sum(map(len, named(made, relations))) == 1


def test_a_source_is_asked_only_for_whom_it_may(catalogue: Catalogue) -> None:
    relations = Relations.build(catalogue)
    sources = make_sources(inputs(catalogue, relations), ["fresh", "popular"])
    ask = np.array([[True, False], [False, True], [False, False]])
    made = propose(sources, np.array([2, 3, 4]), 10, ask=ask)
    assert {(USERS[u], made.names[s]) for u, s in zip(made.users, made.sources, strict=True)} == {
        ("carl", "fresh"),
        ("dora", "popular"),
    }
    assert made.worth.all()


def test_all_sources_may_fail(catalogue: Catalogue) -> None:
    (source,) = make_sources(inputs(catalogue, Relations.build(catalogue)), ["popular"])
    with patch.object(source, "candidates", side_effect=RuntimeError("out of order"), create=True):
        made = propose([source], np.arange(3), 10)
    assert list(made.failed) == ["popular"]
    assert (len(made.items), made.worth.shape, made.names) == (0, (3, 0), [])


def test_actors_are_bounded() -> None:
    count = MOST_ACTORS + 5
    one = np.zeros(count, np.int64)
    paths = Paths(one, np.arange(count), one, np.linspace(0.1, 0.5, count, dtype=np.float32))
    actors = paths.ranking(1, count, 3).actors
    assert actors is not None
    assert actors.indices.tolist() == list(range(count))[::-1][:MOST_ACTORS]


def named(made: Proposals, relations: Relations) -> list[list[str]]:
    bounds, columns = made.actors.indptr, made.actors.indices
    return [
        [relations.actor_ids[actor] for actor in columns[bounds[row] : bounds[row + 1]]]
        for row in range(len(made.items))
    ]


PAIRS = st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 3)), STRENGTHS, max_size=12)


@settings(max_examples=80, deadline=None)
@given(ties=PAIRS, offers=PAIRS, hidden=PAIRS, count=st.integers(1, 5))
def test_paths_equal_a_count_by_hand(
    ties: dict[tuple[int, int], float],
    offers: dict[tuple[int, int], float],
    hidden: dict[tuple[int, int], float],
    count: int,
) -> None:
    ways: defaultdict[tuple[int, int], dict[int, float]] = defaultdict(dict)
    for (user, actor), closeness in ties.items():
        for (who, item), value in offers.items():
            if who == actor and (user, item) not in hidden:
                ways[user, item][actor] = closeness * value
    paths = Paths.walk(_matrix(ties), _matrix(offers)).without(None, _matrix(hidden))
    ranking = paths.ranking(4, 4, count)
    assert ranking.actors is not None
    for user in range(4):
        scores = {
            item: 1 - np.prod([1 - min(strength, CLOSEST) for strength in by.values()])
            for (who, item), by in ways.items()
            if who == user
        }
        found = [item for item in ranking.items[user] if item != NONE]
        assert len(found) == len(set(found)) == min(count, len(scores))
        expected = sorted(scores.values(), reverse=True)[:count]
        np.testing.assert_allclose(ranking.scores[user, : len(found)], expected, rtol=1e-5)
        for place, item in enumerate(found):
            np.testing.assert_allclose(scores[item], ranking.scores[user, place], rtol=1e-5)
            cell = user * ranking.items.shape[1] + place
            bounds = ranking.actors.indptr[cell : cell + 2]
            actors = ranking.actors.indices[slice(*bounds)].tolist()
            strengths = [ways[user, item][actor] for actor in actors]
            assert sorted(actors) == sorted(ways[user, item])
            assert strengths == sorted(strengths, reverse=True)


def _matrix(entries: dict[tuple[int, int], float]) -> Matrix:
    keys = np.array(list(entries), np.int64).reshape(-1, 2)
    return sparse(np.array(list(entries.values()), np.float32), keys[:, 0], keys[:, 1], (4, 4))


def test_latest_interactions_of_pairs_and_users() -> None:
    """Of several interactions of a pair the latest counts."""
    catalogue = Catalogue.build(
        ["a", "b", "c"],
        ["x", "y"],
        ["b", "a", "b", "b"],
        ["y", "x", "x", "y"],
        [1.0, 1.0, 1.0, 1.0],
        interaction_times=times(9, 5, 7, 3),
    )
    np.testing.assert_array_equal(catalogue.latest, times(5, 7, 3))
    last = catalogue.last_interaction
    np.testing.assert_array_equal(last[:2], times(5, 3))
    assert last[2] == np.datetime64("1970-01-01", "us")


def test_a_friend_counts_only_within_the_window(catalogue: Catalogue) -> None:
    relations = Relations.build(catalogue, friends=(["anna"], ["bert"], [1.0]))
    source = FriendActivity(catalogue, relations, NOW, timedelta(hours=20))
    assert not source.worth_asking(np.arange(5)).any()
