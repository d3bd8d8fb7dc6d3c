"""What a fitted model says of the users and items that the index knows now.

The model knows those of the time when it was fitted, the index those of now. Queries have the
profiles of now; one without a profile borrows that of those alike by attributes. A candidate that
the model doesn't know, or knows without interactions, borrows their vectors.

Users as candidates are an inner product, and what it is made of doesn't depend on who else is in
the index: a shard gives its users the scores that an index of all gives them, once it is told what
the users of other shards add to an item (`told`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, vstack

from services.candidate.index.entities import Placement
from services.candidate.index.part import Part
from services.candidate.index.placing import (
    Contents,
    Vectors,
    carried,
    contents_of,
    known_after,
    rows_in,
    vectors_of,
    with_texts,
)
from services.candidate.index.tables import Tables
from services.candidate.models import CandidateModel, FactorRanker, Side
from services.candidate.models.attributes import nearest
from services.candidate.sources import Catalogue
from services.candidate.sources.arrays import NONE, Floats, Mask, Matrix, Rows, sparse

BLOCK = 512
SIDES: tuple[Side, Side] = ("items", "users")
_QUERIES: Mapping[Side, Side] = {"items": "users", "users": "items"}
_NOT_EMPTY = np.zeros(1, np.bool_)


@dataclass(frozen=True, eq=False, slots=True)
class ItemSum:
    """What the users who like an item, and whom the model knows, add up to."""

    vector: npt.NDArray[np.float64]
    members: int
    """How many they are."""


@dataclass(frozen=True, eq=False, slots=True)
class VectorQuery:
    """A query of a direction that is an inner product: the score of candidate c is
    `vectors[c] · query + bias[c]`."""

    query: Floats
    vectors: Floats
    """Candidates × dimensions."""
    bias: Floats
    relevance: Callable[[Floats], Floats]
    """Probabilities of any scores of this query, which grow with them; −inf stays."""


@dataclass(frozen=True, eq=False, slots=True)
class Prediction:
    """Scores and calibrated relevance, by rows of the index. `side` is what is recommended, the
    candidates; the queries are the other."""

    part: Part
    catalogue: Catalogue
    contents: Mapping[Side, Contents]
    known: Mapping[Side, Rows]
    """By row: the row in the model, or NONE."""
    forgotten: Mapping[Side, Rows]
    """Rows of the model whose users or items were removed since: who comes under such an id is not
    whom the model knows."""
    vectors: Mapping[Side, Vectors]
    """Of those directions that are inner products: `users` always."""
    told: Mapping[int, ItemSum] = field(default_factory=dict)
    """Of items by row: over the users of all shards, in place of those of the index."""

    @classmethod
    def of(cls, part: Part, tables: Tables, catalogue: Catalogue) -> "Prediction":
        """Place a model's users and items by their ids."""
        contents, model = contents_of(tables), part.model
        known = {side: rows_in(model, side, contents[side].entities.ids) for side in SIDES}
        part = replace(part, model=with_texts(model, tables, known["items"]))
        vectors = {
            side: vectors_of(part, side, contents[side], known[side])
            for side in SIDES
            if model.index(side) is not None
        }
        forgotten = {side: np.zeros(0, np.int64) for side in SIDES}
        return cls(part, catalogue, contents, known, forgotten, vectors)

    def moved(
        self, tables: Tables, catalogue: Catalogue, placed: Mapping[Side, Placement]
    ) -> "Prediction":
        """The same model for what the index knows after some changes."""
        contents = contents_of(tables)
        forgotten = {
            side: np.union1d(self.forgotten[side], placed[side].lost(self.known[side]))
            for side in SIDES
        }
        part = self.part
        known = {
            side: known_after(part.model, side, contents[side], placed[side], rows, forgotten[side])
            for side, rows in self.known.items()
        }
        vectors = {
            side: carried(part, side, contents[side], placed[side], known[side], found)
            for side, found in self.vectors.items()
        }
        if tables.item_texts is not self.contents["items"].texts:
            part = replace(part, model=with_texts(part.model, tables, known["items"]))
            if "items" in vectors:
                vectors["items"] = vectors_of(part, "items", contents["items"], known["items"])
        return Prediction(part, catalogue, contents, known, forgotten, vectors)

    @property
    def model(self) -> CandidateModel:
        """The model, cut to the index's share of the users."""
        return self.part.model

    @property
    def horizon(self) -> timedelta | None:
        """How far ahead relevance looks; None: the model knows no times."""
        clock = self.model.clock
        return None if clock is None else timedelta(seconds=clock.horizon)

    @property
    def user_tastes(self) -> Floats:
        """See `Vectors.tastes`."""
        return self.vectors["users"].tastes

    def relevance(self, side: Side, rows: Rows, some: Rows | None = None) -> Floats:
        """See `Predictor`."""
        return self.calibrated(side, rows, self.scores(side, rows, some))

    def scores(self, side: Side, rows: Rows, some: Rows | None = None) -> Floats:
        """See `Predictor`."""
        if side == "users":
            queries = np.zeros((len(rows), len(self._ranker.mean)), np.float32)
            for place, row in enumerate(rows.tolist()):
                queries[place] = self.item_query(row)
            return self._users(queries, some)
        return self.scores_of(side, *self.profiles(rows), some)

    def popularity(self, side: Side) -> Floats:
        """See `Predictor`."""
        blank = csr_array(np.zeros((1, len(self.model.ids(side))), np.float32))
        scores: Floats = self.scores_of(side, blank, np.zeros(1, np.bool_))[0]
        return scores

    def calibrated(self, side: Side, rows: Rows, scores: Floats) -> Floats:
        """See `Predictor`. NONE: a query that the index doesn't know."""
        known = self.known[_QUERIES[side]]
        places = np.where(rows == NONE, NONE, known[rows])
        new = ~np.isin(places, self.part.liked) if side == "users" else None
        return self.model.relevance(side, places, scores, new)

    def pairs(self, users: Rows, items: Rows) -> Floats:
        """See `Predictor`."""
        asked, places = np.unique(users, return_inverse=True)
        scores = np.empty(len(users), np.float32)
        order = np.argsort(places, kind="stable")
        ends = np.searchsorted(places[order], np.arange(BLOCK, len(asked) + BLOCK, BLOCK))
        for block, part in enumerate(np.split(order, ends[:-1])):
            profiles, new = self.profiles(asked[block * BLOCK : (block + 1) * BLOCK])
            scores[part] = self._paired(profiles, new, places[part] - block * BLOCK, items[part])
        return self.calibrated("items", users, scores[:, None])[:, 0]

    def _paired(self, profiles: Matrix, new: Mask, places: Rows, items: Rows) -> Floats:
        index = self.model.index("items")
        if index is None:
            scores: Floats = self.scores_of("items", profiles, new)[places, items]
            return scores
        found, queries = self.vectors["items"], index.queries(profiles)
        taste: Floats = np.einsum("nd,nd->n", queries[places], found.vectors[items])
        return taste + found.bias[items]

    def scores_of(
        self, side: Side, profiles: Matrix, new: Mask, some: Rows | None = None
    ) -> Floats:
        """Profiles × candidates, or some of the candidates; all finite. `new`: see `profiles`."""
        index = self.model.index(side)
        chosen = slice(None) if some is None else some
        if index is not None:
            found = self.vectors[side]
            vectors, bias = found.vectors[chosen], found.bias[chosen]
            return np.asarray(index.queries(profiles) @ vectors.T + bias, np.float32)
        scores = self.model.directions[side].ranker.scores(profiles, new)
        least = np.where(np.isfinite(scores), scores, np.inf).min(axis=1, keepdims=True)
        rows = self.known[side][chosen]
        placed = np.where(rows == NONE, -np.inf, scores[:, rows])
        return np.where(np.isfinite(placed), placed, least).astype(np.float32)

    def profiles(self, users: Rows) -> tuple[Matrix, Mask]:
        """Profiles of users over the model's items, and which of them are borrowed, or empty, since
        their user likes nothing."""
        likes = self._likes(users)
        new = np.diff(likes.indptr) == 0
        cold = np.flatnonzero(new)
        if not len(cold):
            return likes, new
        columns, texts = self.contents["users"].of(users[cold])
        lent = self.model.lent("items", columns, len(cold), texts, self.part.lenders["users"])
        order = np.arange(len(users))
        order[cold] = len(users) + np.arange(len(cold))
        found: Matrix = csr_array(vstack([likes, lent], format="csr"))[order]
        return found, new

    def item_query(self, item: int) -> Floats:
        """The vector of an item as a query for users."""
        found = self.told.get(item) or self.item_sum(item)
        if found.members:
            sums = found.vector[None, :].astype(np.float32)
            query: Floats = self._ranker.directed(sums, _NOT_EMPTY)[0]
            return query
        columns, texts = self.contents["items"].of(np.array([item]))
        return self.content_query(columns, None if texts is None else texts[0])

    def item_sum(self, item: int) -> ItemSum:
        """What the index's users add to an item as a query."""
        part = self.catalogue.by_item[[item]]
        places = self.known["users"][part.indices[part.data > 0]]
        members = self._ranker.inward[places[places != NONE]]
        return ItemSum(members.sum(axis=0, dtype=np.float64), len(members))

    def content_query(self, columns: Mapping[str, Sequence[Any]], text: Floats | None) -> Floats:
        """The vector of an item by its attributes (one value each) and the vector of its text: the
        mean of those alike."""
        ranker, known, liked = self._ranker, self.model.attributes.get("items"), self.part.liked
        if known is None or not len(liked):
            return np.zeros(len(ranker.mean), np.float32)
        asked = known.others(columns, 1, None if text is None else text[None, :])
        weights = nearest(asked.likeness(known.rows(liked)))
        weights.eliminate_zeros()
        sums = np.asarray(weights @ self.part.item_sums[liked], np.float32)
        query: Floats = ranker.directed(sums, np.array([weights.nnz == 0]))[0]
        return query

    def users_for_item(self, item: int) -> VectorQuery:
        """An item as a query for users."""
        return self._for_users(item, self.item_query(item))

    def users_for_content(
        self, columns: Mapping[str, Sequence[Any]], text: Floats | None
    ) -> VectorQuery:
        """An item that the index doesn't know, by its attributes (one value each) and the vector of
        its text."""
        return self._for_users(NONE, self.content_query(columns, text))

    def _for_users(self, item: int, query: Floats) -> VectorQuery:
        found = self.vectors["users"]

        def relevance(scores: Floats) -> Floats:
            found: Floats = self.calibrated("users", np.array([item]), scores[None, :])[0]
            return found

        return VectorQuery(query, found.vectors, found.bias, relevance)

    @property
    def _ranker(self) -> FactorRanker:
        ranker = self.model.index("users")
        assert ranker is not None
        return ranker

    def _users(self, queries: Floats, some: Rows | None = None) -> Floats:
        found = self.vectors["users"]
        chosen = slice(None) if some is None else some
        scores: Floats = queries @ found.vectors[chosen].T + found.bias[chosen]
        return scores

    def _likes(self, users: Rows) -> Matrix:
        part = self.catalogue.weights[users]
        places = self.known["items"][part.indices]
        kept = np.flatnonzero((part.data > 0) & (places != NONE))
        owners = np.repeat(np.arange(len(users)), np.diff(part.indptr))
        shape = (len(users), len(self.model.item_ids))
        return sparse(np.ones(len(kept), np.float32), owners[kept], places[kept], shape)


class Unfitted:
    """Before anything is liked: nothing is more relevant than anything else."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._sizes = {"users": len(catalogue.user_ids), "items": len(catalogue.item_ids)}
        self.user_tastes = np.zeros((len(catalogue.user_ids), 0), np.float32)
        self.horizon: timedelta | None = None

    def scores(self, side: Side, rows: Rows, some: Rows | None = None) -> Floats:
        """0."""
        return np.zeros((len(rows), self._sizes[side] if some is None else len(some)), np.float32)

    relevance = scores

    def popularity(self, side: Side) -> Floats:
        """0."""
        return np.zeros(self._sizes[side], np.float32)

    def calibrated(self, side: Side, rows: Rows, scores: Floats) -> Floats:
        """The scores."""
        return scores

    def users_for_item(self, item: int) -> VectorQuery:
        """All scores are 0."""
        size = self._sizes["users"]
        nothing = np.zeros(0, np.float32)
        return VectorQuery(nothing, self.user_tastes, np.zeros(size, np.float32), np.copy)

    def users_for_content(
        self, columns: Mapping[str, Sequence[Any]], text: Floats | None
    ) -> VectorQuery:
        """All scores are 0."""
        return self.users_for_item(NONE)

    def pairs(self, users: Rows, items: Rows) -> Floats:
        """0."""
        return np.zeros(len(users), np.float32)
