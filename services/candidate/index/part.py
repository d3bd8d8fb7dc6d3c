"""A fitted model, cut to what an index of some of the users needs of it.

Scores of a shard are those of an index of all users, to rounding: what is a sum over users is made
before the cut (`item_sums`) or added up over the shards, and whoever lends to others is in every
part.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from services.candidate.index.share import ALL, Share
from services.candidate.models import CandidateModel, FactorRanker, Side
from services.candidate.models.direction import Direction
from services.candidate.sources.arrays import Floats, Rows

MOST_LENDERS = 8_192
"""Users from whom those without interactions borrow, at most."""


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """A model as an index serves it."""

    model: CandidateModel
    """Of its users those of the share, and the lenders."""
    lenders: Mapping[Side, Rows]
    """Rows of the model from which others borrow: users who like something, and the items that are
    candidates of an inner product."""
    item_sums: Floats
    """Items × dimensions: what the users of the whole model who like an item add up to as a query
    for users."""
    liked: Rows
    """Items that somebody in the whole model likes."""
    version: str = ""
    """Of the folder that the model is from; empty: it was fitted here."""

    @classmethod
    def of(cls, model: CandidateModel, share: Share = ALL, version: str = "") -> "Part":
        """Cut a model. Raises ValueError when its users aren't vectors."""
        ranker = model.index("users")
        if ranker is None:
            raise ValueError("the model's users are not an index of vectors")
        likes = np.diff(model.matrix.indptr)
        warm = np.flatnonzero((likes > 0) & np.isfinite(ranker.bias)).astype(np.int64)
        users = warm[:: max(-(-len(warm) // MOST_LENDERS), 1)]
        items = model.index("items")
        candidates = np.zeros(0) if items is None else items.bias
        by_item = model.matrix.T.tocsr()
        sums: Floats = np.asarray(by_item @ ranker.inward, np.float32)
        directions = {**model.directions, "users": model.audience}
        model = replace(model, directions=directions)
        rows = _kept(model, ranker, users, share)
        return cls(
            model=model if rows is None else _cut(model, ranker, rows),
            lenders={
                "users": users if rows is None else np.searchsorted(rows, users),
                "items": np.flatnonzero(np.isfinite(candidates)),
            },
            item_sums=sums,
            liked=np.flatnonzero(np.diff(by_item.indptr)),
            version=version,
        )


def _kept(model: CandidateModel, ranker: FactorRanker, lenders: Rows, share: Share) -> Rows | None:
    """Rows of the users that a part has; None: all. The one with the least bias is among them."""
    if share.is_all:
        return None
    known = np.where(np.isfinite(ranker.bias), ranker.bias, np.inf)
    least = [int(known.argmin())] if len(known) else []
    own = share.rows(model.user_ids)
    return np.unique(np.concatenate([own, lenders, np.array(least, np.int64)]))


def _cut(model: CandidateModel, ranker: FactorRanker, rows: Rows) -> CandidateModel:
    items, users = model.directions["items"], model.directions["users"]
    cut = replace(
        ranker, inward=ranker.inward[rows], vectors=ranker.vectors[rows], bias=ranker.bias[rows]
    )
    levels = np.append(rows, len(items.queries) - 1)
    directions: dict[Side, Direction] = {
        "items": replace(items, queries=items.queries[levels]),
        "users": replace(users, ranker=cut),
    }
    attributes: dict[str, Any] = dict(model.attributes)
    if "users" in attributes:
        attributes["users"] = attributes["users"].rows(rows)
    return replace(
        model,
        user_ids=[model.user_ids[row] for row in rows.tolist()],
        matrix=model.matrix[rows],
        seen=model.seen[rows],
        directions=directions,
        audience=directions["users"],
        attributes=attributes,
    )
