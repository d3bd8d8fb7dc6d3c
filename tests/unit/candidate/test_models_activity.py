"""Activity: who will be active in the next horizon, by what was seen at past moments."""

import numpy as np
import pytest

from services.candidate.models import Interactions
from services.candidate.models.activity import (
    Form,
    Moment,
    _is_sure,
    _selected,
    fit_activity,
    past_moments,
)
from services.candidate.models.context import Clock
from services.candidate.sources.arrays import Floats

DAY = 86400.0
NOW = Clock(100 * DAY, 7 * DAY)


def bursts(seed: int = 0, users: int = 80) -> Interactions:
    """Users who come for two days, in turn, and are hardly seen again."""
    generator = np.random.default_rng(seed)
    rows, times = [], []
    for user in range(users):
        begin = generator.uniform(0, 98 * DAY)
        rows += [user] * 30
        times += generator.uniform(begin, begin + 2 * DAY, 30).tolist()
    items = generator.integers(0, 25, len(rows))
    names = [f"u{user}" for user in rows], [f"i{item}" for item in items]
    return Interactions.of(*names, np.array(times))


def test_moments_hold_only_what_was_known_and_what_followed() -> None:
    known = bursts()
    assert known.times is not None
    for moment in past_moments(known, NOW, 40):
        assert (known.times[moment.known] < moment.clock.now).all()
        assert moment.clock.now + moment.clock.horizon <= NOW.now + 1
        users = np.unique(known.users[moment.known])
        np.testing.assert_array_equal(np.flatnonzero(moment.there), users)
        later = (known.times >= moment.clock.now) & (known.times < moment.clock.now + 7 * DAY)
        after = np.bincount(known.users[later], minlength=len(known.user_ids))[moment.there]
        np.testing.assert_array_equal(moment.met > 0, after > 0)


def test_those_in_the_midst_of_a_burst_come_first() -> None:
    known = bursts()
    assert known.times is not None
    clock = Clock(float(known.times.max()) - 2 * DAY, 7 * DAY)
    before = known.take(known.times < clock.now)
    after = np.bincount(known.users[known.times >= clock.now], minlength=len(known.user_ids))
    seen = np.bincount(before.users, minlength=len(known.user_ids)) > 0
    for count in (30, 120):
        activity, _ = fit_activity(before, clock, count)
        scores = activity.of_users(before, clock)[:-1]
        active = np.flatnonzero(seen & (after > 0))
        best = np.argsort(-np.where(seen, scores, -np.inf))[: 2 * len(active)]
        assert len(active)
        assert set(active) <= set(best.tolist())


@pytest.mark.parametrize(("power", "form"), [(2, "products"), (1, "plain")])
def test_products_of_features_are_taken_where_the_middle_is_wanted(power: int, form: Form) -> None:
    generator = np.random.default_rng(0)
    tables, moments = list[Floats](), list[Moment]()
    for _ in range(80):
        features = generator.standard_normal((400, 2)).astype(np.float32)
        wish = np.exp(-2 * features[:, 0].astype(np.float64) ** power)
        met = generator.multinomial(200, wish / wish.sum()).astype(np.float32)
        there = np.ones(len(features), np.bool_)
        moments.append(Moment(NOW, there, there, met, met))
        tables.append(features)
    assert _selected(moments, tables).form == form


def test_a_gain_is_sure_by_whole_horizons() -> None:
    generator = np.random.default_rng(0)
    assert _is_sure(generator.normal(1.0, 1.0, 56).astype(np.float32))
    one_horizon = np.zeros(56, np.float32)
    one_horizon[7:14] = 5.0  # seven moments that share what followed
    assert not _is_sure(one_horizon)
    assert not _is_sure(np.zeros(56, np.float32))
