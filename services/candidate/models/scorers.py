"""Collaborative scorers: from the candidates of a query's profile to a score of every candidate.

All are written for a matrix of queries × candidates. Forwards the queries are users and a profile
is what they interacted with; backwards the queries are items and a profile is who interacted with
them. A profile needn't be a row of the fitted matrix, so new and cold queries are scored alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import svds

from services.candidate.models.interactions import Decomposition, Interactions
from services.candidate.sources.arrays import Floats, Matrix

MOST_DENSE = 6000
"""Candidates up to which a dense candidates × candidates matrix is fitted (144 MB in float32)."""
LEAST_VALUE = 1e-3
"""Share of the largest singular value below which one counts as 0."""
MOST_EXACT = 1500
"""Size of the smaller side up to which singular vectors are computed exactly."""
Arrays = Mapping[str, Any]


class Scorer(Protocol):
    """Scores all candidates for profiles."""

    def scores(self, profiles: Matrix) -> Floats:
        """Dense len(profiles) × candidates, float32."""

    def arrays(self) -> dict[str, Any]:
        """What `load` needs, as plain arrays."""


@dataclass(frozen=True, eq=False, slots=True)
class Ease:
    """Linear item-to-item weights in closed form (Steck, "Embarrassingly Shallow Autoencoders for
    Sparse Data", WWW 2019). Candidates² of memory."""

    weights: Floats

    @classmethod
    def fit(cls, matrix: Matrix, penalty: float) -> Self:
        """`penalty`: the L2 weight, relative to the mean profile count of a candidate."""
        gram = np.asarray((matrix.T @ matrix).todense(), np.float64)
        counts = gram.diagonal().copy()
        mean = counts[counts > 0].mean() if (counts > 0).any() else 1.0
        gram[np.diag_indices_from(gram)] += penalty * mean
        inverse = np.linalg.inv(gram)
        table = -inverse / inverse.diagonal()
        np.fill_diagonal(table, 0.0)
        return cls(np.ascontiguousarray(table, np.float32))

    def scores(self, profiles: Matrix) -> Floats:
        """Sum of the weights of the profile's members."""
        return np.asarray(profiles @ self.weights, np.float32)

    def arrays(self) -> dict[str, Any]:
        """The weights."""
        return {"weights": self.weights}


@dataclass(frozen=True, eq=False, slots=True)
class LinearFilter:
    """Two steps on the graph, with the degrees discounted by powers: profile → candidates it
    shares queries with (LinkProp: Fu et al., "Revisiting Neighborhood-based Link Prediction for
    Collaborative Filtering", WWW Companion 2022)."""

    table: Matrix
    """The fitted matrix, queries × candidates."""
    inward: Floats
    """Weight of a profile's member: its degree to the power −a."""
    through: Floats
    """Weight of a fitted query on the way: its degree to the power −b."""
    outward: Floats
    """Weight of a reached candidate: its degree to the power −c."""

    @classmethod
    def fit(cls, matrix: Matrix, powers: tuple[float, float, float]) -> Self:
        """`powers`: a, b and c."""
        queries, candidates = degrees(matrix)
        a, b, c = powers
        return cls(matrix, candidates**-a, queries**-b, candidates**-c)

    def scores(self, profiles: Matrix) -> Floats:
        """Weighted count of paths of length two from the profile."""
        first = np.asarray(((profiles * self.inward) @ self.table.T).todense(), np.float32)
        first *= self.through
        reached: Floats = np.ascontiguousarray((self.table.T @ first.T).T, np.float32)
        reached *= self.outward
        return reached

    def arrays(self) -> dict[str, Any]:
        """The degrees' powers and the matrix."""
        table = self.table
        return {
            "inward": self.inward,
            "through": self.through,
            "outward": self.outward,
            "indptr": table.indptr.astype(np.int64),
            "indices": table.indices.astype(np.int32),
            "data": table.data.astype(np.float32),
        }


@dataclass(frozen=True, eq=False, slots=True)
class LowPass:
    """Ideal low-pass filter: the first singular vectors of the degree-normalised matrix (the
    second part of GF-CF: Shen et al., "How Powerful is Graph Convolution for Recommendation?",
    CIKM 2021), with each kept by the power of its singular value."""

    vectors: Floats
    """Candidates × kept: what a profile is projected on."""
    outward: Floats
    """Candidates × kept: what comes back."""

    @classmethod
    def fit(
        cls, basis: "Basis", rank: int, powers: tuple[float, float], sharpness: float = 0.0
    ) -> Self:
        """From the first `rank` singular vectors, profile members weighted by degree^−a, reached
        candidates by degree^c, and vectors by the singular value to the power `sharpness`."""
        rank = min(rank, len(basis.values))
        vectors = basis.vectors[:, :rank]
        gain = (basis.values[:rank] / max(basis.values[0], 1e-12)) ** sharpness
        a, c = powers
        inward = vectors * (basis.degrees**-a)[:, None]
        outward = vectors * gain * (basis.degrees**c)[:, None]
        return cls(
            np.ascontiguousarray(inward, np.float32), np.ascontiguousarray(outward, np.float32)
        )

    def scores(self, profiles: Matrix) -> Floats:
        """The projection of the profile."""
        return np.asarray((profiles @ self.vectors) @ self.outward.T, np.float32)

    def arrays(self) -> dict[str, Any]:
        """Both sets of vectors."""
        return {"vectors": self.vectors, "outward": self.outward}


@dataclass(frozen=True, eq=False, slots=True)
class Basis:
    """The truncated singular value decomposition that several low-pass filters share."""

    vectors: Floats
    values: Floats
    degrees: Floats

    @classmethod
    def fit(cls, known: Interactions, rank: int, seed: int) -> Self:
        """The first right singular vectors of D_q^−½ M D_c^−½. Made once for both directions."""
        found = known.decompositions.get(seed)
        if found is None and (other := known.transposed.decompositions.get(seed)):
            found = Decomposition(other.right, other.values, other.left, other.rank)
        if found is None or found.rank < min(rank, min(known.matrix.shape) - 1):
            found = _decomposed(known.matrix, rank, seed)
        known.decompositions[seed] = found
        return cls(found.right, found.values, degrees(known.matrix)[1])


def _decomposed(matrix: Matrix, rank: int, seed: int) -> Decomposition:
    queries, candidates = degrees(matrix)
    scaled = diags_array(queries**-0.5) @ matrix @ diags_array(candidates**-0.5)
    rank = max(min(rank, min(matrix.shape) - 1), 1)
    if min(matrix.shape) <= MOST_EXACT:
        left, values, right = _exact(csr_array(scaled), rank)
    else:
        generator = np.random.default_rng(seed)
        start = generator.random(min(matrix.shape)).astype(np.float32)
        left, values, right = svds(csr_array(scaled), k=rank, v0=start, tol=1e-4, rng=generator)
    order = np.argsort(-values, kind="stable")
    # vectors of a value of 0 are whatever the solver began with
    order = order[values[order] > LEAST_VALUE * values.max(initial=0.0)]
    return Decomposition(
        np.ascontiguousarray(left[:, order], np.float32),
        values[order].astype(np.float32),
        np.ascontiguousarray(right[order].T, np.float32),
        rank,
    )


def _exact(scaled: Matrix, rank: int) -> tuple[Any, Any, Any]:
    """By the eigenvectors of the smaller side: an iterative solver misses repeated values, which
    small graphs of several parts have, and takes others by chance."""
    wide = scaled.shape[0] <= scaled.shape[1]
    short = np.asarray((scaled if wide else scaled.T).todense(), np.float64)
    size = len(short)
    squares, vectors = eigh(short @ short.T, subset_by_index=[size - rank, size - 1])
    values = np.sqrt(np.maximum(squares, 0))
    other = (short.T @ vectors) / np.maximum(values, 1e-12)
    return (vectors, values, other.T) if wide else (other, values, vectors.T)


def degrees(matrix: Matrix) -> tuple[Floats, Floats]:
    """Row and column sums, at least 1."""
    queries = np.asarray(matrix.sum(axis=1), np.float32).ravel()
    candidates = np.asarray(matrix.sum(axis=0), np.float32).ravel()
    return np.maximum(queries, np.float32(1)), np.maximum(candidates, np.float32(1))


@dataclass(frozen=True, slots=True)
class Recipe:
    """A scorer that can be fitted: its kind and its hyperparameters."""

    kind: str
    values: tuple[float, ...]

    @property
    def label(self) -> str:
        """For people, e.g. `ease(3)`."""
        return f"{self.kind}({', '.join(f'{value:g}' for value in self.values)})"


def fit_scorers(known: Interactions, recipes: Sequence[Recipe], seed: int) -> list[Scorer]:
    """Fit each recipe; the low-pass filters share one decomposition."""
    ranks = [int(recipe.values[0]) for recipe in recipes if recipe.kind == "lowpass"]
    basis = Basis.fit(known, max(ranks), seed) if ranks else None
    return [_fitted(known.matrix, recipe, basis) for recipe in recipes]


def _fitted(matrix: Matrix, recipe: Recipe, basis: Basis | None) -> Scorer:
    values = recipe.values
    if recipe.kind == "ease":
        return Ease.fit(matrix, values[0])
    if recipe.kind == "linear":
        return LinearFilter.fit(matrix, (values[0], values[1], values[2]))
    if recipe.kind == "lowpass" and basis is not None:
        return LowPass.fit(basis, int(values[0]), (values[1], values[2]), values[3])
    raise ValueError(f"unknown scorer {recipe.kind!r}")


def load_scorer(kind: str, arrays: Arrays, shape: tuple[int, int]) -> Scorer:
    """A scorer from its `arrays()`. Raises KeyError or ValueError when they don't fit."""
    if kind == "ease":
        return Ease(arrays["weights"])
    if kind == "lowpass":
        return LowPass(arrays["vectors"], arrays["outward"])
    if kind == "linear":
        parts: Any = (arrays["data"], arrays["indices"], arrays["indptr"])
        table: Matrix = csr_array(parts, shape=shape)
        return LinearFilter(table, arrays["inward"], arrays["through"], arrays["outward"])
    raise ValueError(f"unknown scorer {kind!r}")


def recipes_for(shape: tuple[int, int]) -> list[Recipe]:
    """What the fit tries on a matrix of this shape (queries × candidates)."""
    small = shape[1] <= MOST_DENSE
    found = [Recipe("linear", powers) for powers in LINEAR_POWERS]
    ranks = SMALL_RANKS if small else LARGE_RANKS
    for rank in ranks:
        found += [Recipe("lowpass", (rank, 0.5, 0.5, sharp)) for sharp in (0.0, 1.0)]
    if small:
        found += [Recipe("ease", (penalty,)) for penalty in EASE_PENALTIES]
    return found


LINEAR_POWERS = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.0), (0.35, 0.65, 0.35), (0.7, 0.7, 0.4))
SMALL_RANKS = (8, 24, 64)
LARGE_RANKS = (64, 256)
EASE_PENALTIES = (1.0, 4.0, 16.0)
