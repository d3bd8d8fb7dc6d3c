"""Coordinate ascent: combinations without timestamps."""

import numpy as np
import pytest

from services.candidate.models.ascent import Scale, ascend, joined, shorten
from services.candidate.models.combination import Lists, gains
from services.candidate.models.recipes import Recipe, neighbours


def made(candidates: int, seed: int = 0, queries: int = 60) -> Lists:
    """Two scorers that each see half of the truth, one that sees nothing."""
    generator = np.random.default_rng(seed)
    shape = (queries, candidates)
    halves = [generator.normal(size=shape).astype(np.float32) for _ in range(2)]
    blind = generator.normal(size=shape).astype(np.float32)
    wanted = halves[0] + halves[1] + generator.normal(size=shape) / 2
    met = (wanted > np.quantile(wanted, 0.96)).astype(np.float32)
    allowed = generator.random(shape) < 0.9
    context = generator.normal(size=(candidates, 2)).astype(np.float32)
    nothing = np.zeros(candidates, np.float32)
    return Lists(allowed, met * allowed, nothing, context, [*halves, blind])


@pytest.mark.parametrize("candidates", [15, 90, 900])
@pytest.mark.parametrize("start", [2, 3, 4])
def test_a_combination_is_not_behind_its_part(candidates: int, start: int) -> None:
    lists = made(candidates)
    scale = Scale.of(lists.context)
    found, reached = ascend(shorten(lists, scale), scale, start)
    alone = float(gains(lists.taste[start - 2], lists).mean())
    whole = float(gains(found.scores(lists.offset, lists.context, lists.taste), lists).mean())
    assert whole >= alone
    assert reached == pytest.approx(whole, abs=0.01)


def test_both_halves_of_the_truth_get_weight_and_what_is_blind_little() -> None:
    lists = made(400, queries=300)
    scale = Scale.of(lists.context)
    found, _ = ascend(shorten(lists, scale), scale, 2)
    weights = found.weights
    assert weights[3] == pytest.approx(weights[2], rel=0.35)
    assert np.abs(weights[[0, 1, 4]]).max() < 0.3 * weights[2]


def test_short_lists_hold_only_candidates_once() -> None:
    lists = made(900)
    scale = Scale.of(lists.context)
    short = joined([shorten(lists, scale), shorten(lists, scale)])
    first = short.features[2][:60]
    for query in range(60):
        values = first[query][short.there[query]]
        assert len(np.unique(values)) == len(values)
        assert np.isin(values, lists.taste[0][query][lists.candidates[query]]).all()
        best = np.sort(lists.taste[0][query][lists.candidates[query]])[-100:]
        assert np.isin(best, values).all()


def test_powers_step_within_their_range() -> None:
    found = neighbours(Recipe("linear", (0.5, 1.0, 0.0)), 0.15)
    assert {recipe.values for recipe in found} == {
        (0.65, 1.0, 0.0),
        (0.35, 1.0, 0.0),
        (0.5, 0.85, 0.0),
        (0.5, 1.0, 0.15),
    }
