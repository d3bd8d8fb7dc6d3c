"""The candidates that a user would have in the pool, made offline by candidate's own sources."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from services.candidate.index.fitting import fit_model
from services.candidate.index.part import Part
from services.candidate.index.prediction import Prediction
from services.candidate.index.tables import Tables
from services.candidate.models import Interactions
from services.candidate.sources import (
    Catalogue,
    Predictor,
    SourceInputs,
    make_sources,
    propose,
)
from simulation.world import World, interaction_weight, item_created

RANDOM_SOURCE = "random"
PER_SOURCE = 10
"""What each source may suggest to a user on a day: the default of GenerateDaily."""


@dataclass(frozen=True, slots=True)
class Suggestions:
    """One day's candidates as aligned columns: users and items by position, source, its score."""

    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    source: npt.NDArray[np.str_]
    score: npt.NDArray[np.float32]


def suggestions(world: World, days: int, random_per_day: int, seed: int) -> list[Suggestions]:
    """For each day from the world's start what the sources suggest, and random items beside it.

    No item is suggested to a user twice, nor one of the user's history. Random items are drawn
    evenly from what is left, with the score 0; without them the log would know only items that a
    source had liked.
    """
    catalogue = _catalogue(world, item_created(world, seed))
    predictor = _predictor(world, catalogue, seed)
    random = np.random.default_rng(seed)
    taken = world.seen.copy()
    made = []
    for day in range(days):
        now = world.start + timedelta(days=day)
        sources = make_sources(SourceInputs(catalogue, predictor, now))
        everyone = np.arange(len(world.data.users))
        found = propose(sources, everyone, PER_SOURCE, blocked=csr_array(taken))
        taken[found.users, found.items] = True
        users, items = _random_items(taken, random_per_day, random)
        taken[users, items] = True
        made.append(
            Suggestions(
                np.concatenate((found.users, users)),
                np.concatenate((found.items, items)),
                np.concatenate(
                    (np.array(found.names)[found.sources], np.full(len(users), RANDOM_SOURCE))
                ),
                np.concatenate((found.scores, np.zeros(len(users), np.float32))),
            )
        )
    return made


def _catalogue(world: World, created: list[datetime]) -> Catalogue:
    weights = np.array([interaction_weight(stars) for stars in range(6)])
    history = world.history
    return Catalogue.build(
        [user.user_id for user in world.data.users],
        [item.item_id for item in world.data.items],
        history.user.astype(np.int64),
        history.item.astype(np.int64),
        weights[history.stars],
        item_created=created,
    )


def _predictor(world: World, catalogue: Catalogue, seed: int) -> Predictor:
    """Fitted as the service fits. Without attributes: only who has no interactions borrows by them,
    and in the history everyone has."""
    history = world.history
    weights = np.array([interaction_weight(stars) for stars in range(6)], np.float32)
    interactions = Interactions(
        catalogue.user_ids,
        catalogue.item_ids,
        history.user.astype(np.int64),
        history.item.astype(np.int64),
        history.time.astype(np.float64),
        weights[history.stars],
    )
    tables = Tables.of(interactions, catalogue.item_created, catalogue.item_live)
    return Prediction.of(Part.of(fit_model(tables, seed=seed)), tables, catalogue)


def _random_items(
    taken: npt.NDArray[np.bool_], count: int, random: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """`count` items for each user among those not taken (fewer where fewer are left)."""
    draws = np.where(taken, np.inf, random.random(taken.shape))
    items = np.argpartition(draws, count, axis=1)[:, :count]
    free = np.isfinite(np.take_along_axis(draws, items, axis=1))
    users = np.repeat(np.arange(len(taken)), free.sum(axis=1))
    return users, items[free].astype(np.int64)
