"""A fitted direction as arrays and plain values, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from services.candidate.models.calibration import Calibration
from services.candidate.models.combination import Combination
from services.candidate.models.direction import Direction
from services.candidate.models.newcomers import Newcomers
from services.candidate.models.rankers import FactorRanker, FilterRanker, Ranker
from services.candidate.models.recipes import Recipe, load_scorer

Arrays = Mapping[str, Any]


def direction_parts(direction: Direction) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays by name, and what goes into the manifest."""
    arrays: dict[str, Any] = {
        "calibration": direction.calibration.weights,
        "new_calibration": direction.new_calibration.weights,
        "queries": direction.queries,
    }
    ranker = direction.ranker
    facts: dict[str, Any] = {
        "recipes": [[recipe.kind, list(recipe.values)] for recipe in direction.recipes],
        "timed": direction.timed,
        "validation_ndcg20": dict(direction.report),
    }
    if isinstance(ranker, FactorRanker):
        facts |= {"ranker": "factors", "ends": list(ranker.ends)}
        for name in FACTOR_ARRAYS:
            arrays[name] = getattr(ranker, name)
    elif isinstance(ranker, FilterRanker):
        facts["ranker"] = "filters"
        arrays |= _filter_arrays(ranker)
    return arrays, facts


FACTOR_ARRAYS = ("inward", "vectors", "bias", "weights", "mean")


def _filter_arrays(ranker: FilterRanker) -> dict[str, Any]:
    combination = ranker.combination
    arrays: dict[str, Any] = {
        "middle": combination.middle,
        "scale": combination.scale,
        "weights": combination.weights,
        "offset": ranker.offset,
        "context": ranker.context,
        "centres": ranker.centres,
        "known": ranker.known,
    }
    if ranker.newcomers is not None:
        arrays["newcomers_level"] = ranker.newcomers.level
        arrays["newcomers_share"] = ranker.newcomers.share
        arrays["newcomers_weight"] = np.array([ranker.newcomers.weight])
    for place, scorer in enumerate(ranker.scorers):
        arrays |= {f"scorer{place}_{name}": array for name, array in scorer.arrays().items()}
    return arrays


def read_direction(arrays: Arrays, facts: Arrays, shape: tuple[int, int]) -> Direction:
    """Of queries × candidates. Raises KeyError or ValueError when the parts don't fit."""
    recipes = [Recipe(str(kind), tuple(values)) for kind, values in facts["recipes"]]
    ranker: Ranker
    if facts["ranker"] == "factors":
        ends = tuple(int(end) for end in facts["ends"])
        ranker = FactorRanker(ends=ends, **{name: arrays[name] for name in FACTOR_ARRAYS})
        size = len(ranker.bias)
    else:
        ranker = _read_filters(arrays, recipes, shape)
        size = len(ranker.known)
    if size != shape[1] or len(arrays["queries"]) != shape[0] + 1:
        raise ValueError("a direction is of another size than the ids")
    return Direction(
        ranker,
        Calibration(arrays["calibration"]),
        Calibration(arrays["new_calibration"]),
        arrays["queries"],
        recipes,
        bool(facts["timed"]),
        facts["validation_ndcg20"],
    )


def _read_filters(arrays: Arrays, recipes: list[Recipe], shape: tuple[int, int]) -> FilterRanker:
    scorers = []
    for place, recipe in enumerate(recipes):
        prefix = f"scorer{place}_"
        own = {
            name.removeprefix(prefix): array
            for name, array in arrays.items()
            if name.startswith(prefix)
        }
        scorers.append(load_scorer(recipe.kind, own, shape))
    newcomers = None
    if "newcomers_level" in arrays:
        level, share = arrays["newcomers_level"], arrays["newcomers_share"]
        newcomers = Newcomers(level, share, float(arrays["newcomers_weight"][0]))
    return FilterRanker(
        scorers,
        Combination(arrays["middle"], arrays["scale"], arrays["weights"]),
        arrays["offset"],
        arrays["context"],
        arrays["centres"],
        arrays["known"],
        newcomers,
    )
