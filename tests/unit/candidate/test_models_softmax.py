"""Vectors learned by a softmax: their gradients, what they find, and the fit that has them."""

from pathlib import Path

import numpy as np
import pytest

from services.candidate.models import FactorRanker, FitOptions, fit, load, save
from services.candidate.models.rankers import FilterRanker
from services.candidate.models.softmax import DECAY, _gradients, _split, softmax_vectors
from services.candidate.sources.arrays import Floats, Matrix
from tests.unit.candidate.test_models import made


def _loss(shown: Matrix, hidden: Matrix, inward: Floats, outward: Floats, bias: Floats) -> float:
    """The mean of −log softmax over the members to be found, written out."""
    total = 0.0
    for row in range(shown.shape[0]):
        members = shown[[row]].indices
        query = inward[members].sum(axis=0) / max(len(members), 1) ** 0.5
        scores = outward @ query + bias
        scores[members] = -np.inf
        level = np.log(np.exp(scores).sum())
        total += float((level - scores[hidden[[row]].indices]).sum())
    return total / hidden.nnz + DECAY / 2 * float((inward**2).sum() + (outward**2).sum())


def test_gradients_are_those_of_the_loss() -> None:
    known = made(users=12, items=9)
    generator = np.random.default_rng(2)
    shown, hidden = _split(known.matrix, np.arange(len(known.user_ids)), generator)
    assert ((shown + hidden) != known.matrix).nnz == 0
    parts = [generator.standard_normal(shape) for shape in ((9, 3), (9, 3), (9,))]
    found = _gradients(shown.copy(), hidden, *parts)
    step = 1e-6
    for place, (part, gradient) in enumerate(zip(parts, found, strict=True)):
        for cell in [(0, 1), (7, 2)] if part.ndim == 2 else [(0,), (7,)]:
            values = []
            for change in (step, -step):
                moved = [array.copy() for array in parts]
                moved[place][cell] += change
                values.append(_loss(shown, hidden, *moved))
            expected = (values[0] - values[1]) / (2 * step)
            assert gradient[cell] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_those_of_a_group_are_near_to_each_other() -> None:
    known = made()
    inward, outward = softmax_vectors(known.matrix, 8, 0)
    scores = np.asarray(known.matrix @ inward) @ outward.T
    scores -= scores.mean(axis=0)
    items = np.array([int(name.split()[1]) % 2 for name in known.item_ids])
    users = np.array([int(name[2:-2]) % 2 for name in known.user_ids])
    assert (scores[users == 0][:, items == 0] > 0).mean() > 0.9
    assert (scores[users == 1][:, items == 0] > 0).mean() < 0.1


@pytest.mark.parametrize("timed", [True, False])
def test_users_are_ranked_by_more_than_vectors_and_both_are_kept(
    tmp_path: Path, timed: bool
) -> None:
    model = fit(made(timed=timed))
    assert isinstance(model.directions["users"].ranker, FilterRanker)
    assert isinstance(model.audience.ranker, FactorRanker)
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    profiles = model.profiles("users", np.arange(len(model.item_ids)))
    for ours, theirs in (
        (model.audience, again.audience),
        (model.directions["users"], again.directions["users"]),
    ):
        found = ours.ranker.scores(profiles), theirs.ranker.scores(profiles)
        np.testing.assert_array_equal(*found)


def test_an_index_of_vectors_is_the_direction_of_a_quick_fit(tmp_path: Path) -> None:
    model = fit(made(), FitOptions(effort="quick"))
    assert model.audience is model.directions["users"]
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.audience is again.directions["users"]
    assert again.index("users") is again.audience.ranker
