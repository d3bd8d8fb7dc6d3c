"""Relevance on sets that tell little: as much is expected as happens, or as the prior rate says."""

import numpy as np
import pytest

from services.candidate.models import CandidateModel, FitOptions, Interactions, Side, fit
from services.candidate.models.calibration import Pairs, fit_calibration
from services.candidate.models.context import Clock
from services.candidate.models.selection import Effort
from services.candidate.models.windows import HELD_OUT, make_windows, user_window
from services.candidate.sources.arrays import Floats

DAY = 86400.0
EFFORTS: tuple[Effort, Effort] = ("quick", "full")
SIDES: tuple[Side, Side] = ("items", "users")


def interactions(users: Floats, items: Floats, timed: bool = False) -> Interactions:
    """Of numbered users with numbered items, over sixty days."""
    times = np.random.default_rng(1).uniform(0, 60 * DAY, len(users)) if timed else None
    return Interactions.of([f"u{row:04}" for row in users], [f"i{row:04}" for row in items], times)


def unseen(model: CandidateModel, side: Side) -> Floats:
    """Relevance of the pairs that haven't met."""
    seen = np.asarray(model.seen.todense()) > 0
    seen = seen if side == "items" else seen.T
    parts = [
        model.relevance(side, rows, scores)
        for _, scores, rows in model.scored(side, np.arange(len(seen)))
    ]
    found: Floats = np.concatenate(parts)[~seen]
    return found


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("each", [1, 2])
def test_where_nobody_shares_an_item_all_pairs_have_the_prior_rate(
    effort: Effort, timed: bool, each: int
) -> None:
    rows = np.arange(400 * each)
    model = fit(interactions(rows // each, rows, timed), FitOptions(effort=effort))
    for side in SIDES:
        np.testing.assert_allclose(unseen(model, side), 1 / 400, rtol=0.01)
        found = model.recommend(side, ["nobody"], 5, exclude_seen=False)
        np.testing.assert_allclose(found.relevance, 1 / 400, rtol=0.01)


@pytest.mark.parametrize("effort", EFFORTS)
def test_users_with_two_items_are_expected_to_meet_a_tenth_of_what_they_met(effort: Effort) -> None:
    users = np.repeat(np.arange(600), 2)
    items = np.random.default_rng(2).permutation(1200) // 3
    model = fit(interactions(users, items), FitOptions(effort=effort))
    for side in SIDES:
        assert unseen(model, side).sum() == pytest.approx(HELD_OUT * 1200, rel=0.3)


def test_weeks_in_which_nothing_new_was_met_count() -> None:
    """Users come back each week for what they know; in one of eight weeks sixteen meet another."""
    own = [(user, user % 8, (7 * week + 1) * DAY) for user in range(40) for week in range(12)]
    other = [(user, (user + 1) % 8, 64.5 * DAY) for user in range(16)]
    users, items, times = zip(*own, *other, strict=True)
    known = Interactions.of([f"{u}" for u in users], [f"{i}" for i in items], np.array(times))
    windows = make_windows(known, "auto", Clock(78 * DAY + 1, 7 * DAY), 0)
    assert [window.met.nnz for window in windows.choice] == [16]
    assert [window.met.nnz for window in windows.calibration] == [0, 0, 0, 0, 0, 0, 16, 0]
    turned = windows.transposed()
    assert [window.met.shape for window in turned.choice] == [windows.choice[0].met.shape[::-1]]
    for effort in EFFORTS:
        model = fit(known, FitOptions(7 * DAY, effort=effort))
        for side in SIDES:
            assert 2 < unseen(model, side).sum() < 8


def test_a_share_held_out_by_chance_is_that_share() -> None:
    known = interactions(np.repeat(np.arange(3000), np.tile([1, 2, 15], 1000)), np.arange(18000))
    window = user_window(known, 0, by_chance=True)
    kept = np.bincount(window.known.users, minlength=3000).reshape(-1, 3)
    assert (kept[:, 0] == 1).all()
    assert set(kept[:, 1]) == {1, 2}
    assert set(kept[:, 2]) == {13, 14}
    np.testing.assert_allclose(kept.mean(axis=0), [1.0, 1.8, 13.5], atol=0.05)


@pytest.mark.parametrize("met", [0, 1, 5, 50])
@pytest.mark.parametrize("sign", [1, -1])
def test_as_much_is_expected_as_was_met(met: int, sign: int) -> None:
    """Whatever the spread of the scores, and where the worst ones were met; beside the prior."""
    scores = np.random.default_rng(3).normal(size=20_000).astype(np.float32) * 2
    chosen = np.zeros(len(scores), np.bool_)
    chosen[np.argsort(-sign * scores)[:met]] = True
    ones = np.ones(len(scores), np.float32)
    found = fit_calibration(Pairs(scores, ones[:, None], chosen, ones, met), 0.01)
    told = found.relevance(scores[None, :], ones[:1, None])
    assert found.weights[0] > 0
    expected = len(scores) * (met + 1) / (len(scores) + 100)
    assert told.sum() == pytest.approx(expected, rel=1e-3)


def test_a_query_without_interactions_is_not_beyond_those_seen() -> None:
    """All users meet twelve items: the fewer so far, the more to come, but no more than that."""
    items = np.random.default_rng(5).integers(0, 300, 4800)
    model = fit(
        interactions(np.repeat(np.arange(400), 12), items, True), FitOptions(effort="quick")
    )
    found = model.recommend("items", ["nobody"], 300, exclude_seen=False)
    assert found.relevance.sum() < 12
