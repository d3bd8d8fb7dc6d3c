"""Rank: scores, snapshots, the feed's effect, and bad input."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, timedelta

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status.rpc_status import from_call
from heliograph.ranker.v1alpha1 import ranker_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.ranker.features import (
    Embedding,
    FeatureState,
    UserSignals,
    apply,
    content_vector,
    resolve,
    seconds,
    user_features,
)
from services.ranker.features.items import ItemTable
from services.ranker.feed import entry_of
from tests.service.ranker.conftest import NOW, Peers, Ranker, item, request

HOUR = timedelta(hours=1)


def scores(response: ranker_pb2.RankResponse) -> np.ndarray:
    return np.asarray(response.scores).reshape(-1, len(response.heads))


async def test_every_event_gets_a_probability_per_head(ranker: Ranker) -> None:
    response = await ranker.rank(["u1", "u2"], [["i1", "i2"], ["i3"]])
    assert len(response.heads) == 9
    found = scores(response)
    assert found.shape == (3, 9)
    assert ((found >= 0) & (found <= 1)).all()
    assert response.rank_id.startswith("20260105.")
    assert response.model_versions == ["bootstrap-1"] * 2
    assert notification_pb2.HEAD_PUSH_OPEN in response.trained_heads
    assert notification_pb2.HEAD_APP_DELETE not in response.trained_heads
    opens = found[:, list(response.heads).index(notification_pb2.HEAD_PUSH_OPEN)]
    assert len(set(opens.tolist())) == 3


async def test_together_as_one_by_one(ranker: Ranker, peers: Peers) -> None:
    users = [f"u{number}" for number in range(40)]
    for number, user in enumerate(users):
        for step in range(number % 5):
            peers.sent(NOW - step * HOUR, user, f"20260104.{number}-{step}", f"i{step}")
    wanted = [[f"i{n}" for n in range(number % 4)] for number in range(40)]
    together = scores(await ranker.rank(users, wanted))
    alone = [
        scores(await ranker.rank([user], [items]))
        for user, items in zip(users, wanted, strict=True)
        if items
    ]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)


async def test_served_features_equal_those_of_the_whole_history(
    ranker: Ranker, peers: Peers
) -> None:
    """No skew: what Rank used is what the full feed gives, recomputed from nothing."""
    peers.batch = 3
    for number in range(70):
        moment = NOW - (70 - number) * 7 * HOUR
        decision = f"20251220.d{number}"
        peers.decided(moment, "u1", decision, event=f"e{number}")
        peers.sent(moment, "u1", decision, f"i{number % 6}")
        if number % 3 == 0:
            peers.engaged(moment + HOUR / 6, "u1", decision, f"i{number % 6}")
        if number % 4 == 0:
            peers.session(moment + HOUR, "u1", f"s{number}")
        if number % 10 == 0:
            await ranker.rank(["u1", "u2"], [["i1"], ["i2"]], moment)
    response = await ranker.rank(["u2", "u1"], [[], ["i1"]])
    served = await ranker.snapshot(response.rank_id, "u1")

    items = ItemTable()
    for each in peers.items:
        genres = list(each.attributes["genres"].list_value.values)
        made = peers.embeddings.get(each.item_id)
        embedding = made and Embedding(made.model, np.frombuffer(made.vector, "<f2"))
        vector = content_vector("movie", {"genres": genres}, embedding)
        items.put(each.item_id, 1, vector, embedding)
    entries = [entry for message in peers.entries if (entry := entry_of(message)) is not None]
    state = apply(FeatureState(), entries)
    signals = UserSignals("core", "America/New_York")
    expected = resolve(user_features([state], [signals], seconds(NOW), items), items)
    assert {feature.name for feature in served.features} == set(expected)
    for feature in served.features:
        array = np.asarray(feature.values, np.float32).reshape(feature.shape)
        wanted = expected[feature.name]
        if feature.name != "items":
            wanted = wanted[0]
        np.testing.assert_array_equal(array, wanted.astype(np.float32), err_msg=feature.name)
    assert served.snapshot_time.ToDatetime(tzinfo=UTC) == NOW
    assert served.model_version == "bootstrap-1"


async def test_a_snapshot_stays_as_it_was(ranker: Ranker, peers: Peers) -> None:
    peers.sent(NOW - HOUR, "u1", "20260105.d1", "i1")
    response = await ranker.rank(["u1"], [["i1"]])
    before = await ranker.snapshot(response.rank_id, "u1")
    peers.embed(item(1, "Another title", version=2))
    peers.engaged(NOW - HOUR / 2, "u1", "20260105.d1", "i1")
    later = await ranker.rank(["u1"], [["i1"]], NOW + HOUR)
    assert await ranker.snapshot(response.rank_id, "u1", NOW + HOUR) == before
    after = await ranker.snapshot(later.rank_id, "u1", NOW + HOUR)
    assert by_name(after)["engagement_kinds"] != by_name(before)["engagement_kinds"]
    assert by_name(after)["items"] != by_name(before)["items"]


async def test_an_embedding_that_is_made_later_changes_later_features_only(
    ranker: Ranker, peers: Peers
) -> None:
    """The item has the same content version before and after."""
    peers.sent(NOW - HOUR, "u1", "20260105.d1", "i4")
    early = await ranker.rank(["u1"], [["i4"]])
    before = await ranker.snapshot(early.rank_id, "u1")
    peers.embed(peers.items[4])
    late = await ranker.rank(["u1"], [["i4"]], NOW + HOUR)
    assert await ranker.snapshot(early.rank_id, "u1", NOW + HOUR) == before
    after = await ranker.snapshot(late.rank_id, "u1", NOW + HOUR)
    bare, embedded = (
        np.reshape(by_name(each)["items"], (2, 2, 64))[1] for each in (before, after)
    )  # attributes and text of the item that was sent
    np.testing.assert_array_equal(bare[0], embedded[0])
    assert not bare[1].any()
    assert embedded[1].any()


async def test_an_event_of_several_items_is_scored_by_all_of_them(ranker: Ranker) -> None:
    wanted = request(["u1"], [["i1", "i1", "i1"]])
    for event, items in zip(wanted.events, (["i1"], ["i1", "i2", "i4"], ["i1"]), strict=True):
        event.item_ids[:] = items
    first, second, third = scores(await ranker.call(wanted))
    assert (first == third).all()
    assert (first != second).any()


async def test_the_feed_counts_once(ranker: Ranker, peers: Peers) -> None:
    peers.sent(NOW - HOUR, "u1", "20260105.d1", "i1")
    peers.entries *= 3
    first = await ranker.rank(["u1"], [["i1"]])
    peers.entries += peers.entries[:1]
    second = await ranker.rank(["u1"], [["i1"]])
    for response in (first, second):
        features = by_name(await ranker.snapshot(response.rank_id, "u1"))
        assert features["counts"][:3] == [1, 1, 1]
        assert features["send_kinds"] == [1]


async def test_after_a_gap_it_reads_on_from_what_the_feed_still_has(
    ranker: Ranker, peers: Peers
) -> None:
    peers.sent(NOW - 3 * HOUR, "u1", "20260105.d1", "i1")
    await ranker.rank(["u1"], [["i1"]], NOW - 2 * HOUR)
    peers.sent(NOW - HOUR, "u1", "20260105.missed", "i1")
    peers.sent(NOW - HOUR, "u1", "20260105.d3", "i1")
    peers.oldest_entry = 2
    first = await ranker.rank(["u1"], [["i1"]], NOW)
    second = await ranker.rank(["u1"], [["i1"]], NOW)
    for response in (first, second):
        features = by_name(await ranker.snapshot(response.rank_id, "u1"))
        assert features["send_kinds"] == [1, 1]


async def test_without_policy_it_answers_from_what_it_knows(ranker: Ranker, peers: Peers) -> None:
    peers.sent(NOW - HOUR, "u1", "20260105.d1", "i1")
    await ranker.rank(["u1"], [["i1"]])
    peers.policy_down = True
    response = await ranker.rank(["u1"], [["i1"]], NOW + HOUR)
    features = by_name(await ranker.snapshot(response.rank_id, "u1"))
    assert features["send_kinds"] == [1]


async def test_calls_at_once_get_their_own_answers(ranker: Ranker) -> None:
    names = [f"u{number}" for number in range(8)]
    expected = await ranker.rank(names, [["i1", "i2"]] * 8)
    found = await asyncio.gather(*(ranker.rank([name], [["i1", "i2"]]) for name in names))
    assert len({response.rank_id for response in found}) == 8
    np.testing.assert_allclose(
        np.concatenate([scores(response) for response in found]), scores(expected), atol=1e-6
    )


async def test_a_bad_event_leaves_the_others_scored(ranker: Ranker) -> None:
    message = request(["u1"], [["i1", "i2", "i3", "i4", "i5"]])
    clean = scores(await ranker.call(message))
    message.events[0].event_type = "No Type!"
    message.events[1].source_score = math.nan
    message.events[2].item_ids.extend(["x"] * 32)
    message.events[4].event_id = ""
    response = await ranker.call(message)
    assert [each.index for each in response.rejections] == [0, 1, 2, 4]
    assert {each.reason for each in response.rejections} == {"INVALID_FIELD"}
    fields = [each.fields[0].field for each in response.rejections]
    assert fields == ["event_type", "source_score", "item_ids", "event_id"]
    found = scores(response)
    assert not found[[0, 1, 2, 4]].any()
    np.testing.assert_allclose(found[3], clean[3], atol=1e-6)


def _twice(message: ranker_pb2.RankRequest) -> None:
    message.users[1].user_id = message.users[0].user_id


def _outside(message: ranker_pb2.RankRequest) -> None:
    message.user_row[1] = 2


def _short(message: ranker_pb2.RankRequest) -> None:
    del message.user_row[1:]


def _infinite(message: ranker_pb2.RankRequest) -> None:
    message.users[1].hour_profile.extend([0.0] * 167 + [math.inf])


def _negative(message: ranker_pb2.RankRequest) -> None:
    message.users[1].hour_profile.extend([0.0] * 167 + [-1.0])


def _part_of_a_week(message: ranker_pb2.RankRequest) -> None:
    message.users[1].hour_profile.extend([1.0] * 24)


def _zone(message: ranker_pb2.RankRequest) -> None:
    message.users[1].time_zone = "Mars/Olympus"


def _time(message: ranker_pb2.RankRequest) -> None:
    message.deliver_time.CopyFrom(Timestamp(seconds=10**15))


def _last_second(message: ranker_pb2.RankRequest) -> None:
    message.deliver_time.CopyFrom(Timestamp(seconds=253402300799))


def _nobody(message: ranker_pb2.RankRequest) -> None:
    message.users.clear()


def _many(message: ranker_pb2.RankRequest) -> None:
    message.users.extend(ranker_pb2.RankUser(user_id=f"x{n}") for n in range(1000))


def _no_events(message: ranker_pb2.RankRequest) -> None:
    message.events.clear()
    message.user_row.clear()


def _many_events(message: ranker_pb2.RankRequest) -> None:
    more = 16_385 - len(message.events)
    message.events.extend([message.events[0]] * more)
    message.user_row.extend([0] * more)


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (_twice, "users[1].user_id"),
        (_outside, "user_row[1]"),
        (_short, ""),
        (_infinite, "users[1].hour_profile"),
        (_negative, "users[1].hour_profile"),
        (_part_of_a_week, "users[1].hour_profile"),
        (_zone, "users[1].time_zone"),
        (_time, "deliver_time"),
        (_last_second, "deliver_time"),
        (_nobody, "users"),
        (_many, "users"),
        (_no_events, "events"),
        (_many_events, "events"),
    ],
)
async def test_a_bad_request_names_its_field(
    ranker: Ranker, spoil: Callable[[ranker_pb2.RankRequest], None], field: str
) -> None:
    message = request(["u1", "u2"], [["i1"], ["i2"]])
    spoil(message)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ranker.call(message)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in fields_of(caught.value)


async def test_an_unknown_model_is_not_found(ranker: Ranker) -> None:
    message = request(["u1"], [["i1"]])
    for name in ("no-such-model", "../models", "."):
        message.users[0].model_version = name
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ranker.call(message)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert reason_of(caught.value) == "UNKNOWN_MODEL"


@pytest.mark.parametrize("rank_id", ["20260105.0", "20261399.0", "x", "2026010५.0"])
async def test_an_unknown_rank_is_not_found(ranker: Ranker, rank_id: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ranker.snapshot(rank_id, "u1")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(caught.value) == "UNKNOWN_RANK"


def by_name(response: ranker_pb2.GetSnapshotResponse) -> dict[str, list[float]]:
    return {feature.name: list(feature.values) for feature in response.features}


def fields_of(error: grpc.aio.AioRpcError) -> list[str]:
    found = error_details_pb2.BadRequest()
    for detail in details_of(error):
        if detail.Unpack(found):
            return [violation.field for violation in found.field_violations]
    return []


def reason_of(error: grpc.aio.AioRpcError) -> str:
    found = error_details_pb2.ErrorInfo()
    return next(found.reason for detail in details_of(error) if detail.Unpack(found))


def details_of(error: grpc.aio.AioRpcError) -> list:
    status = from_call(error)
    assert status is not None
    return list(status.details)
