"""A model cut to a shard's users scores them as the whole model does, to rounding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.candidate.expressions import AttributeType, ColumnsBuilder, Schema, typed_value
from services.candidate.index import part as parts
from services.candidate.index.entities import Entities
from services.candidate.index.part import Part
from services.candidate.index.prediction import ItemSum, Prediction
from services.candidate.index.share import Share
from services.candidate.index.tables import Tables
from services.candidate.models import CandidateModel, FitOptions, Interactions, fit
from services.candidate.sources.arrays import Floats, Rows

USERS, ITEMS, SHARDS = 240, 30, 3


def _interactions(seed: int, users: int) -> Interactions:
    random = np.random.default_rng(seed)
    count = 1500
    rows = random.integers(0, users - 20, count)  # the last ones have done nothing
    items = (rows % 3 * 8 + random.integers(0, 10, count)) % (ITEMS - 2)
    return Interactions(
        [f"u{number:03}" for number in range(users)],
        [f"i{number:02}" for number in range(ITEMS)],
        rows.astype(np.int64),
        items.astype(np.int64),
        random.uniform(0, 60 * 86400.0, count),
        np.where(random.random(count) < 0.9, 1.0, -1.0).astype(np.float32),
    )


def _entities(ids: list[str], owner: str) -> Entities:
    builder = ColumnsBuilder(Schema({"kind": AttributeType.STRING}, owner=owner))
    for name in ids:
        builder.add({"kind": typed_value(f"k{int(name[1:]) % 5}")})
    return Entities(ids, builder.finish())


def _tables(pairs: Interactions, share: Share) -> Tables:
    rows = share.rows(pairs.user_ids)
    places = np.full(len(pairs.user_ids), -1, np.int64)
    places[rows] = np.arange(len(rows))
    kept = np.flatnonzero(places[pairs.users] >= 0)
    ids = [pairs.user_ids[row] for row in rows.tolist()]
    mine = pairs.take(kept)
    never = np.zeros(len(pairs.item_ids), "datetime64[us]")
    cut = Interactions(
        ids, pairs.item_ids, places[mine.users], mine.items, mine.times, mine.weights
    )
    made = Tables.of(cut, never, np.ones(len(pairs.item_ids), np.bool_))
    users, items = _entities(ids, "user"), _entities(list(pairs.item_ids), "item")
    return Tables(
        users, items, made.user_created, made.item_created, made.item_live, made.item_texts,
        made.interactions,
        made.ties,
    )  # fmt: skip


def _prediction(model: CandidateModel, pairs: Interactions, share: Share) -> Prediction:
    tables = _tables(pairs, share)
    return Prediction.of(Part.of(model, share), tables, tables.catalogue())


@pytest.fixture(scope="module", params=["quick", "full"])
def world(request: pytest.FixtureRequest) -> tuple[CandidateModel, Interactions]:
    """A model of some of the users, and more of what they did later."""
    first = _interactions(1, USERS - 30)
    whole = _tables(first, Share())
    attributes = [
        entities.columns.lists(np.arange(len(entities.ids)))
        for entities in (whole.users, whole.items)
    ]
    model = fit(first, FitOptions(effort=request.param), *attributes)
    return model, _interactions(2, USERS)


def test_shards_score_as_one_index_does(
    world: tuple[CandidateModel, Interactions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MOST_LENDERS", 20)
    model, pairs = world
    whole = _prediction(model, pairs, Share())
    shards = [_prediction(model, pairs, Share(shard, SHARDS)) for shard in range(SHARDS)]
    for item in range(ITEMS):
        told = {item: _added(shards, item)}
        expected = whole.relevance("users", np.array([item]))[0]
        for shard, mine in enumerate(shards):
            view = _with(mine, told)
            rows = Share(shard, SHARDS).rows(pairs.user_ids)
            found = view.relevance("users", np.array([item]))[0]
            np.testing.assert_allclose(found, expected[rows], rtol=1e-4, err_msg=str(item))
    asked = {"kind": ["k2"]}
    expected = _content(whole, asked)
    for shard, mine in enumerate(shards):
        rows = Share(shard, SHARDS).rows(pairs.user_ids)
        np.testing.assert_allclose(_content(mine, asked), expected[rows], rtol=1e-4)
        for place, row in enumerate(rows.tolist()):
            ours, theirs = _items(mine, place), _items(whole, row)
            np.testing.assert_allclose(ours, theirs, rtol=1e-4)
        np.testing.assert_allclose(mine.user_tastes, whole.user_tastes[rows], rtol=1e-5)
    sizes = [len(mine.model.user_ids) for mine in shards]
    assert max(sizes) < len(model.user_ids) / 2


def _content(prediction: Prediction, columns: dict[str, list[str]]) -> Floats:
    found = prediction.users_for_content(columns, None)
    return found.relevance(found.vectors @ found.query + found.bias)


def _added(shards: list[Prediction], item: int) -> ItemSum:
    sums = [shard.item_sum(item) for shard in shards]
    vector = np.sum([each.vector for each in sums], axis=0)
    return ItemSum(vector, sum(each.members for each in sums))


def _with(prediction: Prediction, told: dict[int, ItemSum]) -> Prediction:
    return replace(prediction, told=told)


def _items(prediction: Prediction, user: int) -> Floats:
    row: Rows = np.array([user])
    return prediction.relevance("items", row)[0]
