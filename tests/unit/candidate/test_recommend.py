"""Scores of recommendation questions against plain loops."""

import numpy as np
import pytest

from services.candidate import recommend
from services.candidate.index.prediction import Prediction
from services.candidate.sources import Catalogue
from tests.unit.candidate.predicted import predicted


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
def prediction(catalogue: Catalogue) -> Prediction:
    return predicted(catalogue)


def test_segment_scores_are_means_over_those_who_do_not_know_the_item(
    catalogue: Catalogue, prediction: Prediction
) -> None:
    group = np.array([1, 2, 7, 9])
    scores = recommend.items_for_segment(catalogue, prediction, group, include_interacted=False)
    seen = catalogue.weights.toarray() != 0
    for item in range(30):
        open_users = [user for user in (1, 2, 9) if not seen[user, item]]
        if item == 3 or not open_users:
            assert np.isneginf(scores[item])
            continue
        values = prediction.relevance("items", np.array(open_users))[:, item]
        assert scores[item] == pytest.approx(values.mean(), abs=1e-5)


def test_of_whom_nothing_is_known_popularity_and_activity_speak(
    catalogue: Catalogue, prediction: Prediction
) -> None:
    items = recommend.items_for_user(catalogue, prediction, 7, include_interacted=False)
    live = np.arange(30) != 3
    scores = prediction.popularity("items")[None, :]
    popularity = prediction.calibrated("items", np.array([7]), scores)[0]
    np.testing.assert_allclose(items[live], popularity[live], rtol=1e-5)
    assert len(set(popularity.tolist())) > 1
    alike = recommend.users_like_user(catalogue, prediction.user_tastes, 7)
    assert np.isneginf(alike[7])
    most = catalogue.user_likes.max()
    assert alike[8] == np.float32(catalogue.user_likes[8] / most)
