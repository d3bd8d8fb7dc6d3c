"""Where a model's users and items lie in the index, and vectors for those that it doesn't know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from services.candidate.index.entities import Entities, Placement
from services.candidate.index.tables import Tables
from services.candidate.models import CandidateModel, Side
from services.candidate.models.attributes import Attributes, nearest
from services.candidate.sources.arrays import NONE, Floats, Rows

LENDERS = 4096
"""Of whose vectors those without interactions borrow, at most."""
BLOCK = 512


@dataclass(frozen=True, eq=False, slots=True)
class Contents:
    """What is known of users or items besides interactions."""

    entities: Entities
    texts: npt.NDArray[np.float16] | None
    """Vectors of their texts by row; 0: none yet."""

    def of(self, rows: Rows) -> tuple[dict[str, list[Any]], Floats | None]:
        """Attributes and vectors of some rows."""
        texts = None if self.texts is None else self.texts[rows].astype(np.float32)
        return self.entities.columns.lists(rows), texts


@dataclass(frozen=True, eq=False, slots=True)
class Vectors:
    """The candidates of a direction: the score of c for a query vector q is `vectors[c] · q +
    bias[c]`."""

    vectors: Floats
    """Candidates × dimensions."""
    bias: Floats
    """Finite; of those without interactions the least of all."""
    tastes: Floats
    """Candidates × dimensions: the cosine of two says how alike they are. 0: nothing is known."""


def contents_of(tables: Tables) -> Mapping[Side, Contents]:
    """Of users and items."""
    return {
        "users": Contents(tables.users, None),
        "items": Contents(tables.items, tables.item_texts),
    }


def with_texts(model: CandidateModel, tables: Tables, known: Rows) -> CandidateModel:
    """The model with the present vectors of its items' texts, by which others borrow."""
    texts = np.zeros((len(model.item_ids), tables.item_texts.shape[1]), np.float32)
    there = np.flatnonzero(known != NONE)
    texts[known[there]] = tables.item_texts[there]
    attributes = model.attributes.get("items") or Attributes.of({}, len(texts))
    return replace(
        model, attributes={**model.attributes, "items": replace(attributes, vectors=texts)}
    )


def rows_in(model: CandidateModel, side: Side, ids: Sequence[str]) -> Rows:
    """The model's row of each id, or NONE."""
    if ids is model.ids(side):
        return np.arange(len(ids))
    rows = model.rows[side]
    return np.fromiter((rows.get(name, NONE) for name in ids), np.int64, len(ids))


def vectors_of(model: CandidateModel, side: Side, contents: Contents, known: Rows) -> Vectors:
    """The vectors of candidates whose rows in the model are `known`."""
    index = model.index(side)
    assert index is not None
    bias = np.where(known == NONE, -np.inf, index.bias[known]).astype(np.float32)
    warm = np.isfinite(bias)
    bias[~warm] = bias[warm].min(initial=0.0)
    shape = (len(known), index.vectors.shape[1])
    vectors, tastes = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    vectors[warm], tastes[warm] = index.vectors[known[warm]], index.inward[known[warm]]
    found = Vectors(vectors, bias, tastes)
    _borrow(model, side, contents, found, np.flatnonzero(~warm))
    return found


def carried(
    model: CandidateModel, side: Side, contents: Contents, placed: Placement, found: Vectors
) -> Vectors:
    """The vectors after some changes: those who are new borrow theirs."""
    new = np.flatnonzero(placed.before == NONE)
    if not len(new) and len(placed.before) == placed.count:
        return found
    vectors, bias = found.vectors[placed.before], found.bias[placed.before]
    tastes = found.tastes[placed.before]
    vectors[new], tastes[new] = 0.0, 0.0
    bias[new] = found.bias.min(initial=0.0)
    carried = Vectors(vectors, bias, tastes)
    _borrow(model, side, contents, carried, new)
    return carried


def _borrow(
    model: CandidateModel, side: Side, contents: Contents, found: Vectors, cold: Rows
) -> None:
    """Give the `cold` rows the mean vectors of those alike."""
    index, attributes = model.index(side), model.attributes.get(side)
    if index is None or attributes is None:
        return
    warm = np.flatnonzero(np.isfinite(index.bias))
    some = warm[:: max(-(-len(warm) // LENDERS), 1)]
    lenders = attributes.rows(some)
    for start in range(0, len(cold), BLOCK):
        rows = cold[start : start + BLOCK]
        columns, texts = contents.of(rows)
        asked = attributes.others(columns, len(rows), texts)
        weights = nearest(asked.likeness(lenders))
        found.vectors[rows] = weights @ index.vectors[some]
        found.tastes[rows] = weights @ index.inward[some]
