"""The decomposition of sparse graphs: many small parts, repeated values, and what an iteration
finds beside the exact vectors."""

import numpy as np
from scipy.sparse import csr_array

from services.candidate.models import FitOptions, Interactions, fit
from services.candidate.models.decomposition import MOST_EXACT, Basis, _exact, _iterated


def pairs(count: int) -> Interactions:
    """Each user met one item that nobody else met."""
    names = [f"{place:05}" for place in range(count)]
    return Interactions.of(names, names)


def test_the_iteration_finds_the_first_vectors() -> None:
    generator = np.random.default_rng(0)
    left, right = (np.linalg.qr(generator.standard_normal((size, 60)))[0] for size in (300, 400))
    values = 0.9 ** np.arange(60)
    table = csr_array(((left * values) @ right.T).astype(np.float32))
    expected, found = _exact(table, 20), _iterated(table, 20, 0)
    order = np.argsort(-expected[1])
    np.testing.assert_allclose(found[1], expected[1][order], rtol=1e-3)
    for ours, theirs in ((found[0].T, expected[0].T[order]), (found[2], expected[2][order])):
        np.testing.assert_allclose(np.abs((ours * theirs).sum(axis=1)), 1, atol=1e-3)


def test_a_matrix_of_few_directions_has_no_others() -> None:
    generator = np.random.default_rng(0)
    left, right = (np.linalg.qr(generator.standard_normal((size, 5)))[0] for size in (300, 400))
    values = np.array([1.0, 1.0, 0.3, 0.01, 0.003])
    table = csr_array(((left * values) @ right.T).astype(np.float32))
    users, found, items = _iterated(table, 20, 0)
    np.testing.assert_allclose(found, values, rtol=1e-3)
    for vectors in (users.T, items):
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(5), atol=1e-3)


def test_a_graph_of_many_equal_parts_is_fitted() -> None:
    known = pairs(MOST_EXACT + 100)
    basis = Basis.fit(known, 64, 0, 1.0)
    np.testing.assert_allclose(basis.values, 0.5, rtol=1e-3)
    model = fit(known, FitOptions(effort="quick"))
    found = model.recommend("items", ["00007"], 5, exclude_seen=False)
    assert np.isfinite(found.relevance).all()


def test_small_parts_do_not_take_the_first_vectors() -> None:
    generator = np.random.default_rng(0)
    users, items = np.nonzero(generator.random((60, 50)) < 0.2)
    names = [f"large {user}" for user in users], [f"large {item}" for item in items]
    small = [f"small {place}" for place in range(40)]
    known = Interactions.of(names[0] + small, names[1] + small)
    large = np.array([name.startswith("large") for name in known.item_ids])
    weight = (Basis.fit(known, 10, 0, 1.0).vectors[large] ** 2).sum(axis=0)
    np.testing.assert_allclose(weight, 1, atol=1e-3)
    assert (Basis.fit(known, 10, 0, 0.0).vectors[large] ** 2).sum() < 2
