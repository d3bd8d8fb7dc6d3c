"""How active each user (or how wanted each item) will be in the next horizon, taste aside.

A log-linear model of a few features (`context`), fitted on many moments of the past: at each, whose
interactions followed within the horizon. A few features and many moments, since what decides, who
is in the midst of a session, is seen at few of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.optimize import minimize
from scipy.stats import t

from services.candidate.models.combination import DECIMALS, Weights
from services.candidate.models.context import Clock, context
from services.candidate.models.interactions import Interactions
from services.candidate.models.windows import LEAST_HISTORY
from services.candidate.sources.arrays import Floats, Mask

MOST_MOMENTS = 120
MOST_ROWS = 2_000_000
"""Rows of features, over all moments."""
MOMENTS = 7
"""In a horizon."""
LEAST_MOMENTS = 2 * MOMENTS
"""On each side of a comparison."""
PENALTIES = (0.03, 0.01, 0.003)
"""Weights of the squares of the weights."""
PENALTY = 0.01
"""Where there are too few moments to compare."""
LISTED = 20
SURE = 0.95
"""Confidence at which the form with more weights is taken."""
Form = Literal["plain", "products"]
FORMS: tuple[Form, Form] = ("plain", "products")


@dataclass(frozen=True, eq=False, slots=True)
class Activity:
    """Weights of standardised features."""

    form: Form
    middle: Floats
    scale: Floats
    weights: Weights

    def scores(self, features: Floats) -> Floats:
        """Logarithm of the expected share of interactions, up to a constant."""
        return self.weighed(formed(features, self.form))

    def weighed(self, table: Floats) -> Floats:
        """The same of features that are formed already."""
        found: Floats = ((table - self.middle) / self.scale @ self.weights).astype(np.float32)
        return found

    def of_users(self, known: Interactions, clock: Clock) -> Floats:
        """Scores of the users of `known` (transposed: of the items) at the clock, and a last one
        of somebody without interactions."""
        size = len(known.user_ids) + 1
        return self.scores(context(known.users, size, known.times, clock))


@dataclass(frozen=True, eq=False, slots=True)
class Moment:
    """A moment of the past: who was known, and what followed within the horizon."""

    clock: Clock
    known: Mask
    """Of the interactions."""
    there: Mask
    """Users with a known interaction."""
    met: Floats
    """Of those users: their share of the interactions that followed with items then known."""
    met_by_new: Floats
    """The same, with items then new."""


def fit_activity(
    known: Interactions, clock: Clock, count: int = MOST_MOMENTS
) -> tuple[Activity, Activity]:
    """Of the users of `known` (transposed: of the items), by up to `count` moments: among items
    known at the moment, and among new ones, whom others meet (users new to a set of films begin
    with the best known). The latter is the former where nothing new met anybody."""
    moments = past_moments(known, clock, count)
    tables = [_features(known, moment) for moment in moments]
    activity = _selected(moments, tables)
    by_new = [replace(moment, met=moment.met_by_new) for moment in moments]
    some = any(moment.met.any() for moment in by_new)
    return activity, _selected(by_new, tables) if some else activity


def _selected(moments: Sequence[Moment], tables: Sequence[Floats]) -> Activity:
    """With the penalty whose list of the most active gains most at the later moments, fitted on
    earlier ones; and with products of features where that gains for sure."""
    if len(moments) - len(moments) // 2 - MOMENTS < LEAST_MOMENTS:
        return fit_moments(moments, tables, PENALTY, "plain")
    ready = {form: [formed(table, form) for table in tables] for form in FORMS}
    gains = {
        form: {penalty: _gains(moments, ready[form], penalty, form) for penalty in PENALTIES}
        for form in FORMS
    }
    best = {form: max(PENALTIES, key=lambda each: gains[form][each].sum()) for form in FORMS}
    more = gains["products"][best["products"]] - gains["plain"][best["plain"]]
    form: Form = "products" if _is_sure(more) else "plain"
    return fit_moments(moments, ready[form], best[form], form)


def _gains(
    moments: Sequence[Moment], tables: Sequence[Floats], penalty: float, form: Form
) -> Floats:
    """Discounted gain of the LISTED most active, at each of the later half of the moments, when
    fitted on those that were over before."""
    half = len(moments) // 2
    early = slice(half + MOMENTS, None)
    activity = fit_moments(moments[early], tables[early], penalty, form)
    discount = 1 / np.log2(np.arange(2, LISTED + 2))
    found = np.zeros(half, np.float32)
    for place, (moment, features) in enumerate(zip(moments[:half], tables[:half], strict=True)):
        order = np.argsort(-activity.weighed(features), kind="stable")[:LISTED]
        found[place] = moment.met[order] @ discount[: len(order)]
    return found


def _is_sure(gains: Floats) -> bool:
    """Whether the mean is above 0, by Student's t test; what follows within one horizon, which
    neighbouring moments share, counts as one."""
    sums = np.add.reduceat(gains, np.arange(0, len(gains), MOMENTS))
    error = sums.std(ddof=1) / np.sqrt(len(sums))
    return bool(sums.mean() > t.ppf(SURE, len(sums) - 1) * error)


def formed(features: Floats, form: Form) -> Floats:
    """What gets a weight: the features, with the products of all pairs where wanted."""
    if form == "plain":
        return features
    first, second = np.triu_indices(features.shape[1])
    return np.concatenate([features, features[:, first] * features[:, second] / 10], axis=1)


def fit_moments(
    moments: Sequence[Moment], tables: Sequence[Floats], penalty: float, form: Form
) -> Activity:
    """The weights of the greatest likelihood of who met the moments' interactions; `tables`: the
    features at each moment, formed."""
    table = np.concatenate(tables)
    middle, scale = table.mean(axis=0), table.std(axis=0) + np.float32(1e-3)
    ready = [(table - middle) / scale for table in tables]
    total = sum(float(moment.met.sum()) for moment in moments) or 1.0

    def loss(weights: Weights) -> tuple[float, Weights]:
        value, gradient = 0.0, np.zeros_like(weights)
        for features, moment in zip(ready, moments, strict=True):
            z = features @ weights
            z -= z.max(initial=-np.inf)
            share = np.exp(z)
            whole, many = share.sum(), moment.met.sum()
            value += float(many * np.log(whole) - z @ moment.met)
            gradient += features.T @ (share * (many / whole) - moment.met)
        square = penalty * float(weights @ weights)
        return value / total + square, gradient / total + 2 * penalty * weights

    found = minimize(loss, np.zeros(len(middle)), jac=True, method="L-BFGS-B")
    return Activity(form, middle, scale, np.round(found.x, DECIMALS))


def _features(known: Interactions, moment: Moment) -> Floats:
    times = None if known.times is None else known.times[moment.known]
    users, size = known.users[moment.known], len(known.user_ids)
    return context(users, size, times, moment.clock)[moment.there]


def past_moments(known: Interactions, clock: Clock, count: int) -> list[Moment]:
    """Up to `count` moments up to the clock, latest first, with what followed.

    Each item counts as one, shared among the users that it met: lists are judged by the mean over
    queries, so that one who meets hundreds says no more than one who meets two.
    """
    times, size = known.times, len(known.user_ids)
    if times is None:
        raise ValueError("activity needs timestamps")
    most = max(min(count, MOST_ROWS // max(size, 1)), 1)
    found = []
    for back in range(most):
        moment = clock.now - clock.horizon * (1 + back / MOMENTS)
        before = times < moment
        if back and before.mean() < LEAST_HISTORY:
            break
        after = ~before & (times < moment + clock.horizon) & (known.weights > 0)
        there: Mask = np.bincount(known.users[before], minlength=size) > 0
        old = np.bincount(known.items[before], minlength=len(known.item_ids)) > 0
        met, by_new = (
            _shares(known, after & (old[known.items] == wanted))[there] for wanted in (True, False)
        )
        found.append(Moment(Clock(moment, clock.horizon), before, there, met, by_new))
    return found


def _shares(known: Interactions, chosen: Mask) -> Floats:
    queries, size = len(known.item_ids), len(known.user_ids)
    rows = np.flatnonzero(chosen)
    many = np.bincount(known.items[rows], minlength=queries)
    share = 1 / many[known.items[rows]]
    found: Floats = np.bincount(known.users[rows], share, size).astype(np.float32)
    return found
