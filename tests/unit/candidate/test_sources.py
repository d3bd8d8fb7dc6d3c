"""Sources and factors: planted structure, exactness against brute force, what is left out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_array

from services.candidate.sources import (
    SOURCES,
    Catalogue,
    Predictor,
    Relations,
    SourceInputs,
    make_sources,
    propose,
)
from services.candidate.sources.arrays import NONE, Matrix, best, top_k
from tests.unit.candidate.predicted import predicted

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def planted(users: int = 60, items: int = 40, seed: int = 1) -> Catalogue:
    """Even users like even items, odd users odd ones; half of those pairs is seen."""
    random = np.random.default_rng(seed)
    same = (np.arange(users)[:, None] + np.arange(items)) % 2 == 0
    seen = same & (random.random((users, items)) < 1 / 2)
    rows, columns = np.nonzero(seen)
    return Catalogue.build(
        [f"u{row}" for row in range(users)],
        [f"i{column}" for column in range(items)],
        rows,
        columns,
        random.uniform(0.5, 2.0, len(rows)),
        item_created=[NOW - timedelta(days=column) for column in range(items)],
        interaction_times=np.datetime64(NOW.replace(tzinfo=None), "us")
        - random.integers(1, 10 * 86400, len(rows)) * np.timedelta64(1, "s"),
    )


def tied(catalogue: Catalogue) -> Relations:
    """Everyone follows the makers of half the items, and the next three users are friends."""
    users = list(catalogue.user_ids)
    follows = [(user, team, 0.8) for user in users for team in ("t0", "t1")]
    friends = [(user, users[n + step], 0.5) for n, user in enumerate(users[:-3]) for step in (1, 3)]
    columns = [tuple(zip(*ties, strict=True)) for ties in (follows, friends)]
    creators = [f"t{row % 4}" for row in range(len(catalogue.item_ids))]
    return Relations.build(catalogue, columns[0], columns[1], creators)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return planted()


@pytest.fixture(scope="module")
def predictor(catalogue: Catalogue) -> Predictor:
    return predicted(catalogue)


def test_collaborative_recovers_planted_structure(
    catalogue: Catalogue, predictor: Predictor
) -> None:
    (source,) = make_sources(SourceInputs(catalogue, predictor, NOW), ["collaborative"])
    users = np.arange(len(catalogue.user_ids))
    ranking = source.candidates(users, 5)
    assert ((ranking.items - users[:, None]) % 2 == 0).mean() > 0.95


@settings(max_examples=50)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.sampled_from([-np.inf, 0.0, 0.25, 0.5, 1.0]),
    ),
    st.integers(1, 15),
)
def test_top_k_equals_a_full_sort(scores: np.ndarray, count: int) -> None:
    positions, values = top_k(scores, count)
    width = min(count, scores.shape[1])
    np.testing.assert_array_equal(values, -np.sort(-scores, axis=1)[:, :width])
    for row in range(len(scores)):
        found = positions[row][positions[row] != NONE]
        assert len(set(found)) == len(found)
        np.testing.assert_array_equal(scores[row, found], values[row, : len(found)])


@settings(max_examples=50)
@given(
    hnp.arrays(np.float32, st.integers(0, 30), elements=st.sampled_from([-np.inf, 0.0, 0.5, 1.0])),
    st.integers(1, 35),
)
def test_best_is_a_total_order(scores: np.ndarray, count: int) -> None:
    expected = [row for row in np.argsort(-scores, kind="stable") if scores[row] > -np.inf]
    assert best(scores, count).tolist() == expected[:count]


@pytest.mark.parametrize("name", list(SOURCES))
def test_source_is_exact_and_leaves_out(
    name: str, catalogue: Catalogue, predictor: Predictor
) -> None:
    inputs = SourceInputs(catalogue, predictor, NOW, relations=tied(catalogue))
    (source,) = make_sources(inputs, [name])
    users = np.array([3, 8, 21])
    assert source.worth_asking(users).all()
    everything = source.candidates(users, len(catalogue.item_ids))
    blocked = _blocked(everything.items[:, 0], len(catalogue.item_ids))
    ranking = source.candidates(users, 4, blocked)
    for place, user in enumerate(users):
        seen = set(catalogue.weights[[user]].indices)
        allowed = [item for item in everything.items[place][1:] if item != NONE][:4]
        found = [item for item in ranking.items[place] if item != NONE]
        assert not seen & set(found)
        assert everything.items[place, 0] not in found
        np.testing.assert_array_equal(
            ranking.scores[place, : len(found)], everything.scores[place, 1 : len(allowed) + 1]
        )


def _blocked(items: np.ndarray, width: int) -> Matrix:
    rows = np.arange(len(items))
    return csr_array((np.ones(len(items), np.float32), (rows, items)), shape=(len(items), width))


def test_collaborative_scores_equal_brute_force(catalogue: Catalogue, predictor: Predictor) -> None:
    (source,) = make_sources(SourceInputs(catalogue, predictor, NOW), ["collaborative"])
    ranking = source.candidates(np.array([5]), 3)
    scores = predictor.relevance("items", np.array([5]))[0]
    open_items = [row for row in range(40) if row not in catalogue.weights[[5]].indices]
    assert ranking.items[0].tolist() == sorted(open_items, key=lambda row: -scores[row])[:3]


def test_fresh_proposes_only_the_window(catalogue: Catalogue, predictor: Predictor) -> None:
    inputs = SourceInputs(catalogue, predictor, NOW, fresh_window=timedelta(days=7))
    (source,) = make_sources(inputs, ["fresh"])
    items = source.candidates(np.arange(20), 40).items
    assert set(items[items != NONE]) <= set(range(7))


def test_deleted_items_are_never_proposed(predictor: Predictor) -> None:
    whole = planted()
    live = np.arange(len(whole.item_ids)) % 3 != 0
    catalogue = replace(whole, item_live=live)
    made = propose(make_sources(SourceInputs(catalogue, predictor, NOW)), np.arange(60), 40)
    assert live[made.items].all()


def test_cold_users_get_popular_items_only_and_no_taste() -> None:
    catalogue = Catalogue.build(["a", "new"], ["x", "y"], ["a"], ["y"], [1.0])
    sources = make_sources(SourceInputs(catalogue, predicted(catalogue), NOW))
    made = propose(sources, np.array([1]), 5)
    assert [made.names[source] for source in made.sources] == ["popular"]
    assert made.items.tolist() == [1]


def test_propose_keeps_an_item_for_the_first_source(
    catalogue: Catalogue, predictor: Predictor
) -> None:
    sources = make_sources(SourceInputs(catalogue, predictor, NOW))
    made = propose(sources, np.arange(60), 10)
    pairs = list(zip(made.users.tolist(), made.items.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    kept = sum(count.proposed - count.dropped for count in made.counts.values())
    assert kept == len(pairs)
    assert made.counts["collaborative"].dropped == 0
    assert made.counts["popular"].dropped > 0


@pytest.mark.parametrize(
    ("users", "items", "weights", "message"),
    [
        (["?"], ["x"], [1.0], "unknown user"),
        (["a"], ["?"], [1.0], "unknown item"),
        (["a"], ["x"], [float("nan")], "finite"),
    ],
)
def test_catalogue_refuses_bad_interactions(
    users: list[str], items: list[str], weights: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Catalogue.build(["a"], ["x"], users, items, weights)


def test_unknown_source_is_refused(catalogue: Catalogue, predictor: Predictor) -> None:
    with pytest.raises(KeyError):
        make_sources(SourceInputs(catalogue, predictor, NOW), ["astrology"])
