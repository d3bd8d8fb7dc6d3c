"""Scores of recommendation questions against plain loops."""

import numpy as np
import pytest

from services.candidate import recommend
from services.candidate.sources import Catalogue, Factors, FitOptions, fit_factors, relevance


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    random = np.random.default_rng(5)
    users, items = np.nonzero(random.random((300, 30)) < 0.2)
    keep = users != 7
    users, items = users[keep], items[keep]
    names = [f"u{n}" for n in range(300)]
    live = np.arange(30) != 3
    return Catalogue.build(
        names, [f"i{n}" for n in range(30)], users, items, np.ones(len(users)), item_live=live
    )


@pytest.fixture(scope="module")
def factors(catalogue: Catalogue) -> Factors:
    return fit_factors(catalogue.weights, FitOptions(factors=6))


def test_segment_scores_are_means_over_those_who_do_not_know_the_item(
    catalogue: Catalogue, factors: Factors
) -> None:
    group = np.array([1, 2, 7, 9])
    scores = recommend.items_for_segment(catalogue, factors, group, include_interacted=False)
    seen = catalogue.weights.toarray() != 0
    for item in range(30):
        open_users = [user for user in (1, 2, 9) if not seen[user, item]]
        if item == 3 or not open_users:
            assert np.isneginf(scores[item])
            continue
        values = relevance(np.array([factors.users[u] @ factors.items[item] for u in open_users]))
        assert scores[item] == pytest.approx(values.mean(), abs=1e-5)


@pytest.mark.parametrize("count", [1, 10, 300])
def test_reciprocal_equals_brute_force(catalogue: Catalogue, factors: Factors, count: int) -> None:
    user = 11
    scores = recommend.users_like_user(catalogue, factors, user)
    found = recommend.reciprocal(factors, user, scores, count)
    table = np.stack([recommend.users_like_user(catalogue, factors, u) for u in range(300)])
    warm = [u for u in range(300) if factors.warm_users[u] and u != user]
    others = len(warm) - 1
    expected = sorted(
        (
            min(
                1 - (table[user] > table[user, other]).sum() / others,
                1 - (table[other] > table[other, user]).sum() / others,
            )
            for other in warm
        ),
        reverse=True,
    )
    best = np.sort(found[~np.isneginf(found)])[::-1][:count]
    np.testing.assert_allclose(best, expected[:count], atol=1e-5)


def test_cold_subjects_get_activity_and_popularity(catalogue: Catalogue, factors: Factors) -> None:
    items = recommend.items_for_user(catalogue, factors, 7, include_interacted=False)
    live = np.arange(30) != 3
    np.testing.assert_array_equal(items[live], catalogue.popularity[live])
    alike = recommend.users_like_user(catalogue, factors, 7)
    assert np.isneginf(alike[7])
    assert alike[8] == catalogue.activity[8]
