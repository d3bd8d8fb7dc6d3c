"""Scores of recommendation questions against plain loops."""

from unittest.mock import Mock

import numpy as np
import pytest

from services.candidate import recommend, scoring
from services.candidate.expressions import compile_booster, compile_filter
from services.candidate.index import IndexState
from services.candidate.index.prediction import Prediction
from services.candidate.judging import Judge
from services.candidate.questions import BudgetUse
from services.candidate.sources import Catalogue
from services.candidate.sources.arrays import Floats
from tests.unit.candidate.people import NOW, people
from tests.unit.candidate.predicted import predicted

USERS = 300


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


def brute_force(catalogue: Catalogue, tastes: Floats, user: int) -> Floats:
    """The smaller of the two ranks of each other user."""
    table = np.stack([recommend.users_like_user(catalogue, tastes, u) for u in range(USERS)])
    warm = [u for u in range(USERS) if catalogue.user_likes[u] and u != user]
    found = np.full(USERS, -np.inf, np.float32)
    for other in warm:
        ranks = (table[user] > table[user, other]).sum(), (table[other] > table[other, user]).sum()
        found[other] = 1 - max(ranks) / (len(warm) - 1)
    return found


@pytest.mark.parametrize("count", [1, 10, 300])
@pytest.mark.parametrize("user", [11, 60, 111, 250])
@pytest.mark.parametrize("text", ["", 'user.country == "DE" ? 2.0 : 0.5'])
def test_reciprocal_equals_brute_force(
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    count: int,
    text: str,
) -> None:
    monkeypatch.setattr(scoring, "MATCHED_AT_ONCE", 4)
    columns = people(USERS, 1)
    matches = compile_filter("!has(user.visits) || user.visits != 2", columns.schema)
    booster = compile_booster(text, columns.schema) if text else None
    judge = Judge(columns, NOW, 0.0, matches, booster, None, None, BudgetUse.OFF)
    # Tastes are crowded in some directions, so that who is near to one has others who are nearer.
    tastes = (np.random.default_rng(2).standard_normal((USERS, 3)) ** 3).astype(np.float32)
    prediction = Mock(spec=Prediction, user_tastes=tastes)
    state = Mock(spec=IndexState, catalogue=catalogue, prediction=prediction)
    asked = scoring.users_like_user(state, user, reciprocal=True)
    assert isinstance(asked, scoring.ReciprocalSearch)
    found = asked.best(judge, count)
    wanted = judge.judge(np.arange(USERS), brute_force(catalogue, tastes, user))
    open_scores = wanted.scores[~np.isneginf(wanted.scores)]
    expected = np.sort(open_scores)[::-1][:count]
    # of two who are alike to the last digit either may come first: one rank is 1 / others
    best = np.sort(found.values[~np.isneginf(found.values)])[::-1][:count]
    np.testing.assert_allclose(best, expected, atol=2.02 / (USERS - 3))
    assert len(found.rows) < USERS or count == 300


def test_no_more_are_matched_than_stated(
    catalogue: Catalogue, prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "MOST_MATCHED", 40)
    judge = Judge(people(USERS, 1), NOW, 0.0, None, None, None, None, BudgetUse.OFF)
    state = Mock(spec=IndexState, catalogue=catalogue, prediction=prediction)
    asked = scoring.users_like_user(state, 11, reciprocal=True)
    assert isinstance(asked, scoring.ReciprocalSearch)
    assert len(asked.best(judge, 40).rows) == 40
    assert len(asked.best(judge, 60).rows) == 60


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
