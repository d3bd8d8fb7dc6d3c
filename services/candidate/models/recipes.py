"""What can be fitted, and what the fit tries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.sparse import csr_array

from services.candidate.models.decomposition import Basis
from services.candidate.models.implicit_factors import ImplicitFactors
from services.candidate.models.interactions import Interactions
from services.candidate.models.neighbourhood import Neighbourhood
from services.candidate.models.returns import ReturnFilter
from services.candidate.models.scorers import (
    MOST_DENSE,
    Arrays,
    Ease,
    Factors,
    LinearFilter,
    Scorer,
)
from services.candidate.models.softmax import softmax_vectors
from services.candidate.sources.arrays import Matrix


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
    """Fit each recipe; low-pass filters with the same smoothing share one decomposition."""
    ranks: dict[float, int] = {}
    for recipe in recipes:
        if recipe.kind == "lowpass":
            rank, smoothing = int(recipe.values[0]), recipe.values[4]
            ranks[smoothing] = max(rank, ranks.get(smoothing, 0))
    bases = {each: Basis.fit(known, rank, seed, each) for each, rank in ranks.items()}
    return [_fitted(known, recipe, bases, seed) for recipe in recipes]


def _fitted(known: Interactions, recipe: Recipe, bases: Mapping[float, Basis], seed: int) -> Scorer:
    matrix, values = known.matrix, recipe.values
    if recipe.kind == "ease":
        return Ease.fit(matrix, values[0])
    if recipe.kind in ("linear", "neighbourhood"):
        plain = LinearFilter.fit(matrix, (values[0], values[1], values[2]))
        return plain if recipe.kind == "linear" else Neighbourhood(plain, values[3])
    if recipe.kind == "implicit":
        return ImplicitFactors.fit(matrix, int(values[0]), values[1], values[2], seed)
    if recipe.kind == "returns":
        return ReturnFilter.fit(known, values[0], (values[1], values[2]))
    if recipe.kind == "lowpass":
        basis = bases[values[4]]
        return Factors.low_pass(basis, int(values[0]), (values[1], values[2]), values[3])
    if recipe.kind == "softmax":
        return Factors(*softmax_vectors(matrix, int(values[0]), seed))
    raise ValueError(f"unknown scorer {recipe.kind!r}")


def load_scorer(kind: str, arrays: Arrays, shape: tuple[int, int]) -> Scorer:
    """A scorer from its `arrays()`. Raises KeyError or ValueError when they don't fit."""
    if kind == "ease":
        return Ease(arrays["weights"])
    if kind in ("lowpass", "softmax"):
        return Factors(arrays["inward"], arrays["outward"])
    if kind in ("linear", "neighbourhood"):
        table = _table(arrays, "", shape)
        plain = LinearFilter(table, arrays["inward"], arrays["through"], arrays["outward"])
        return plain if kind == "linear" else Neighbourhood(plain, float(arrays["locality"].item()))
    if kind == "implicit":
        rest, penalty = arrays["weights"].tolist()
        if len(arrays["outward"]) != shape[1]:
            raise ValueError("as many vectors are needed as there are candidates")
        return ImplicitFactors(arrays["outward"], rest, penalty)
    if kind == "returns":
        before, after = (_table(arrays, f"{name}_", shape) for name in ("before", "after"))
        return ReturnFilter(before, after, arrays["through"], arrays["outward"])
    raise ValueError(f"unknown scorer {kind!r}")


def _table(arrays: Arrays, prefix: str, shape: tuple[int, int]) -> Matrix:
    names = (f"{prefix}{name}" for name in ("data", "indices", "indptr"))
    parts: Any = tuple(arrays[name] for name in names)
    table: Matrix = csr_array(parts, shape=shape)
    table.check_format(full_check=True)
    return table


def recipes_for(shape: tuple[int, int], *, dense: bool, timed: bool) -> list[Recipe]:
    """What the fit tries on a matrix of this shape (queries × candidates): inner products, with
    `dense` others too. `timed`: with what needs the times of a user's visits, without what gains
    nothing beside activity."""
    small = shape[1] <= MOST_DENSE
    found = []
    for rank in SMALL_RANKS if small else LARGE_RANKS:
        found += [Recipe("lowpass", (rank, 0.5, 0.5, sharp, 1.0)) for sharp in (0.0, 1.0)]
    if not timed and shape[0] * shape[1] <= MOST_LEARNED:
        found.append(Recipe("softmax", (LEARNED_RANK,)))
    if dense:
        found += [Recipe("linear", powers) for powers in LINEAR_POWERS]
        if small:
            found += [Recipe("ease", (penalty,)) for penalty in EASE_PENALTIES]
        if timed:
            found.append(Recipe("returns", RETURNS))
        else:
            found += [Recipe("neighbourhood", powers) for powers in NEIGHBOURHOODS]
            if min(shape) >= IMPLICIT_SHARE * IMPLICIT_RANK:
                found += [Recipe("implicit", (IMPLICIT_RANK, *values)) for values in IMPLICIT]
    return found


def neighbours(recipe: Recipe, step: float) -> list[Recipe]:
    """With each of the powers a step up or down, within 0 and 1."""
    found = []
    for place in range(len(recipe.values)):
        for change in (step, -step):
            values = list(recipe.values)
            values[place] = round(values[place] + change, 4)
            if 0 <= values[place] <= 1:
                found.append(Recipe(recipe.kind, tuple(values)))
    return found


def quick_recipe(shape: tuple[int, int], *, timed: bool) -> Recipe:
    """What the quick fit takes for a matrix of this shape: all of the first singular vectors where
    they are few against the matrix, else more of the stronger ones, since a filter of full rank
    gives back what was put in. `timed`: beside activity, with which it does better without
    smoothed degrees."""
    smoothing = 0.0 if timed else 1.0
    if min(shape) >= QUICK_SHARE * QUICK_RANK:
        return Recipe("lowpass", (QUICK_RANK, 0.5, 0.5, 0.0, smoothing))
    return Recipe("lowpass", (QUICK_SMALL_RANK, 0.5, 0.5, 1.0, smoothing))


LINEAR_POWERS = (
    (0.5, 0.5, 0.5),
    (0.5, 1.0, 0.5),
    (0.35, 0.65, 0.35),
    (0.4, 0.6, 0.5),
    (0.7, 0.7, 0.4),
)
POWER_STEPS = (0.15, 0.05)
"""By which the best of them are refined where there is no time."""
NEIGHBOURHOODS = ((0.5, 0.5, 0.0, 2.0), (0.5, 0.5, 0.25, 2.0), (0.5, 0.5, 0.5, 2.0))
"""Powers of degrees, and locality: not refined, since by itself the best one is nearly a linear
filter, to which it adds less."""
IMPLICIT_RANK = 256
IMPLICIT_SHARE = 8
"""Of the smaller side, at least, by the rank: more dimensions learn a small set by heart."""
IMPLICIT = ((0.003, 0.003), (0.03, 0.003))
"""Weights of the rest and of the penalty."""
SMALL_RANKS = (8, 24, 64)
LARGE_RANKS = (64, 256)
QUICK_RANK = 64
QUICK_SMALL_RANK = 24
QUICK_SHARE = 8
LEARNED_RANK = 64
MOST_LEARNED = 32_000_000
"""Queries × candidates up to which vectors are learned: time grows with them."""
RETURNS = (6.0, 0.5, 0.5)
"""Hours between visits, and the powers of degrees."""
EASE_PENALTIES = (1.0, 4.0, 16.0)
