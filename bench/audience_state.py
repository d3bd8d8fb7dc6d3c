"""A state of the user index for bench.audience: the users of bench.inverse, and who knows which
item, without a database."""

from typing import cast

import numpy as np

from bench.inverse_data import Users, make_users
from services.candidate.attributes import with_facts
from services.candidate.index import IndexState, UserIndex
from services.candidate.index.entities import Entities
from services.candidate.index.part import Part
from services.candidate.index.prediction import Prediction
from services.candidate.index.tables import Tables
from services.candidate.models import CandidateModel, Interactions
from services.candidate.models.calibration import Calibration
from services.candidate.models.direction import Direction
from services.candidate.models.rankers import FactorRanker
from services.candidate.sources.arrays import Floats
from services.candidate.sources.catalogue import NEVER

INTERACTIONS = 2_000
"""Of each item."""
SLOPE, LEVEL = 1.5, -6.0
"""Of the calibration: most users have a relevance of a few per mille."""


class StillIndex:
    """Where `Audiences` find the state: one that nothing changes."""

    def __init__(self, state: IndexState) -> None:
        self.state = state

    async def refresh(self) -> IndexState:
        """As it is."""
        return self.state

    def as_index(self) -> UserIndex:
        """For types."""
        return cast(UserIndex, self)


def make_state(users: int, items: int, dimensions: int) -> IndexState:
    """Users × items: each item is known to some users, most of them those who are active."""
    made = make_users(users, dimensions)
    bias = _activity(users)
    interactions = _interactions(users, items, bias)
    tables = _tables(interactions, made)
    catalogue = tables.catalogue()
    part = Part.of(_model(interactions, made.vectors, bias))
    facts = with_facts(made.columns, tables.user_created, catalogue.user_counts)
    return IndexState(
        tables=tables,
        catalogue=catalogue,
        relations=tables.relations(),
        prediction=Prediction.of(part, tables, catalogue),
        fit=None,
        user_columns=facts,
        item_columns=tables.items.columns,
        snapshot="",
    )


def _activity(users: int) -> Floats:
    return np.random.default_rng(2).normal(0.0, 0.5, users).astype(np.float32)


def _interactions(users: int, items: int, activity: Floats) -> Interactions:
    random = np.random.default_rng(3)
    shares = np.exp(activity.astype(np.float64))
    drawn = random.choice(users, (items, INTERACTIONS), p=shares / shares.sum())
    owners = np.repeat(np.arange(items), INTERACTIONS)
    return Interactions(
        [f"user-{row:08}" for row in range(users)],
        [f"item-{row:04}" for row in range(items)],
        drawn.ravel(),
        owners,
        np.zeros(owners.shape),
        np.ones(owners.shape, np.float32),
    )


def _tables(interactions: Interactions, users: Users) -> Tables:
    never = np.full(len(interactions.item_ids), NEVER)
    tables = Tables.of(interactions, never, np.ones(len(never), np.bool_))
    entities = Entities(interactions.user_ids, users.columns)
    return Tables(
        users=entities,
        items=tables.items,
        user_created=tables.user_created,
        item_created=tables.item_created,
        item_live=tables.item_live,
        item_texts=tables.item_texts,
        interactions=interactions,
        ties=tables.ties,
    )


def _model(interactions: Interactions, vectors: Floats, activity: Floats) -> CandidateModel:
    """What a fit gives, with these vectors: a query is the mean direction of who knows an item. The
    direction that isn't asked about says nothing."""
    nothing = np.zeros((len(interactions.item_ids), vectors.shape[1]), np.float32)
    users = _direction(vectors, activity, len(nothing))
    items = _direction(nothing, nothing[:, 0], len(vectors))
    return CandidateModel(
        interactions.user_ids,
        interactions.item_ids,
        interactions.matrix,
        interactions.seen,
        {"users": users, "items": items},
        users,
        None,
    )


def _direction(vectors: Floats, bias: Floats, queries: int) -> Direction:
    dimensions = vectors.shape[1]
    weight, mean = np.ones(1, np.float32), np.zeros(dimensions, np.float32)
    ranker = FactorRanker(vectors, vectors, bias, (dimensions,), weight, mean)
    calibration = Calibration(np.array([SLOPE, 0.0, LEVEL]))
    levels = np.zeros((queries + 1, 1), np.float32)
    return Direction(ranker, calibration, calibration, levels, ())
