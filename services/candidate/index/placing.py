"""Where a model's users and items lie in the index, and vectors for those that it doesn't know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from services.candidate.index.entities import Entities, Placement
from services.candidate.index.part import Part
from services.candidate.index.tables import Tables
from services.candidate.index.ties import Ties
from services.candidate.models import TIES, CandidateModel, Side
from services.candidate.models.attributes import Attributes, lenders_of, nearest
from services.candidate.sources.arrays import NONE, Floats, Rows

BLOCK = 512


@dataclass(frozen=True, eq=False, slots=True)
class Contents:
    """What is known of users or items besides interactions."""

    entities: Entities
    texts: npt.NDArray[np.float16] | None
    """Vectors of their texts by row; 0: none yet."""
    ties: Ties | None
    """None: they have none."""

    def of(self, rows: Rows) -> tuple[dict[str, list[Any]], Floats | None]:
        """Attributes, ties among them, and vectors of some rows."""
        texts = None if self.texts is None else self.texts[rows].astype(np.float32)
        columns = self.entities.columns.lists(rows)
        if self.ties is not None and self.ties.count:
            columns[TIES] = self.ties.lists(self.entities, rows)
        return columns, texts


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
        "users": Contents(tables.users, None, tables.ties),
        "items": Contents(tables.items, tables.item_texts, None),
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


def known_after(
    model: CandidateModel,
    side: Side,
    contents: Contents,
    placed: Placement,
    known: Rows,
    forgotten: Rows,
) -> Rows:
    """`known`, the model's row of each, after some changes."""
    new = np.flatnonzero(placed.before == NONE)
    found = rows_in(model, side, [contents.entities.ids[row] for row in new.tolist()])
    found[np.isin(found, forgotten)] = NONE
    rows = placed.carry(known, NONE)
    rows[new] = found
    return rows


def vectors_of(part: Part, side: Side, contents: Contents, known: Rows) -> Vectors:
    """The vectors of candidates whose rows in the model are `known`."""
    index = part.model.index(side)
    assert index is not None
    shape = (len(known), index.vectors.shape[1])
    bias = np.full(len(known), -np.inf, np.float32)
    found = Vectors(np.zeros(shape, np.float32), bias, np.zeros(shape, np.float32))
    _fill(part, side, contents, known, found, np.arange(len(known)))
    return found


def carried(
    part: Part,
    side: Side,
    contents: Contents,
    placed: Placement,
    known: Rows,
    found: Vectors,
) -> Vectors:
    """The vectors after some changes; `known`: the model's rows of all, after them."""
    new = np.flatnonzero(placed.before == NONE)
    if not len(new) and len(placed.before) == placed.count:
        return found
    moved = Vectors(
        placed.carry(found.vectors, 0.0),
        placed.carry(found.bias, -np.inf),
        placed.carry(found.tastes, 0.0),
    )
    _fill(part, side, contents, known, moved, new)
    return moved


def _fill(
    part: Part, side: Side, contents: Contents, known: Rows, found: Vectors, rows: Rows
) -> None:
    """Give rows the vectors that the model has for them, or where it has none those of who is
    alike."""
    index = part.model.index(side)
    assert index is not None
    there = rows[known[rows] != NONE]
    there = there[np.isfinite(index.bias[known[there]])]
    found.vectors[there] = index.vectors[known[there]]
    found.bias[there] = index.bias[known[there]]
    found.tastes[there] = index.inward[known[there]]
    cold = rows[~np.isfinite(found.bias[rows])]
    found.bias[cold] = index.bias[np.isfinite(index.bias)].min(initial=0.0)
    _borrow(part, side, contents, found, cold)


def _borrow(part: Part, side: Side, contents: Contents, found: Vectors, cold: Rows) -> None:
    """Give the `cold` rows the mean vectors of those alike."""
    index, attributes = part.model.index(side), part.model.attributes.get(side)
    if index is None or attributes is None:
        return
    warm = np.isfinite(index.bias)
    for start in range(0, len(cold), BLOCK):
        rows = cold[start : start + BLOCK]
        columns, texts = contents.of(rows)
        asked = attributes.others(columns, len(rows), texts)
        some = lenders_of(part.lenders[side], warm, attributes, asked)
        weights = nearest(asked.likeness(attributes.rows(some)))
        found.vectors[rows] = weights @ index.vectors[some]
        found.tastes[rows] = weights @ index.inward[some]
