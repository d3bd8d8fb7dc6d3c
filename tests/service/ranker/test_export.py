"""ExportTrainingData: decisions, the features they saw, and what came of them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest
from heliograph.ranker.v1alpha1 import ranker_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.ranker.features import HEADS, Channel, Head
from services.ranker.labels import Decided, is_exported
from services.ranker.training.log import Examples, LogError, read_log
from services.runtime.clock import at
from tests.service.ranker.conftest import EMAIL, NOW, Peers, Ranker, item, stamp

DAY = timedelta(days=1)
DISMISS = notification_pb2.ENGAGEMENT_KIND_DISMISS


def exported_ids(count: int, *, kept: bool = True) -> list[str]:
    """Decision ids that the sampling keeps, or leaves out, without any engagement."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        decision = f"20260105.{number:020x}"
        if is_exported(Decided(decision, "u1", 0, Channel.PUSH)) is kept:
            found.append(decision)
        number += 1
    return found


async def export(
    ranker: Ranker,
    folder: Path,
    now: datetime,
    start: datetime = NOW - DAY,
    end: datetime = NOW + DAY,
) -> Examples | None:
    """The log's examples; None for an empty one. Reads the feed first, as time has passed."""
    await ranker.rank(["reader"], [["i1"]], now)
    message = ranker_pb2.ExportTrainingDataRequest(start_time=stamp(start), end_time=stamp(end))
    path = folder / "log.parquet"
    with at(now):
        chunks = [each async for each in ranker.stub.ExportTrainingData(message)]
    path.write_bytes(b"".join(chunk.chunk for chunk in chunks))
    assert all(chunk.row_count == 0 for chunk in chunks[:-1])
    try:
        examples, _ = read_log([path])
    except LogError:
        assert chunks[-1].row_count == 0
        return None
    assert chunks[-1].row_count == len(examples)
    return examples


def label(examples: Examples, row: int, head: Head) -> int:
    return int(examples.labels[row, HEADS.index(head)])


async def test_invariant_8_labels_join_the_features_of_the_decision(
    ranker: Ranker, peers: Peers, tmp_path: Path
) -> None:
    ranked = await ranker.rank(["u1"], [["i1", "i2"]])
    peers.decided(NOW, "u1", "20260105.d1", rank_id=ranked.rank_id, event="u1-i2")
    peers.sent(NOW, "u1", "20260105.d1", "i2")
    peers.engaged(NOW + timedelta(minutes=10), "u1", "20260105.d1", "i2")
    peers.session(NOW + timedelta(hours=2), "u1", "s1")
    examples = await export(ranker, tmp_path, NOW + 5 * DAY)
    assert examples is not None
    assert examples.decision_id == ["20260105.d1"]
    assert examples.channel.tolist() == [Channel.PUSH]
    assert examples.log_probability.tolist() == [1.0]
    assert examples.time.tolist() == [int(NOW.timestamp())]
    assert label(examples, 0, Head.PUSH_OPEN) == 1
    assert label(examples, 0, Head.EMAIL_CLICK) == -1
    assert label(examples, 0, Head.SESSION_1H) == 0
    assert label(examples, 0, Head.SESSION_1D) == 1
    assert not examples.users["send_kinds"].any()  # nothing had been sent at the decision
    score = np.log1p(1e4 * 0.5) / np.log1p(1e4)
    assert examples.events["event_numbers"][0, 0] == np.float32(score)


async def test_invariant_8_what_happens_later_changes_no_features(
    ranker: Ranker, peers: Peers, tmp_path: Path
) -> None:
    ranked = await ranker.rank(["u1"], [["i1", "i2"]])
    peers.decided(NOW, "u1", "20260105.d1", rank_id=ranked.rank_id, event="u1-i2")
    peers.sent(NOW, "u1", "20260105.d1", "i2")
    peers.engaged(NOW + timedelta(minutes=10), "u1", "20260105.d1", "i2")
    seen = await ranker.snapshot(ranked.rank_id, "u1")
    before = await export(ranker, tmp_path, NOW + 5 * DAY)

    peers.items.append(item(2, "Another title", version=2))
    peers.sent(NOW - DAY, "u1", "20260104.late", "i1")  # known after the decision only
    peers.engaged(NOW - DAY, "u1", "20260104.late", "i1")
    peers.session(NOW + timedelta(hours=2), "u1", "s1")
    after = await export(ranker, tmp_path, NOW + 6 * DAY)

    assert before is not None
    assert after is not None
    assert label(before, 0, Head.SESSION_1D) == 0
    assert label(after, 0, Head.SESSION_1D) == 1
    for earlier, later in ((before.users, after.users), (before.events, after.events)):
        for name, array in earlier.items():
            np.testing.assert_array_equal(array, later[name], err_msg=name)
    assert await ranker.snapshot(ranked.rank_id, "u1", NOW + 6 * DAY) == seen
    now = await ranker.rank(["u1"], [["i2"]], NOW)
    found = {each.name: each for each in (await ranker.snapshot(now.rank_id, "u1")).features}
    assert any(found["send_kinds"].values)  # features of today would tell of the late send


async def test_labels_of_open_windows_are_masked(
    ranker: Ranker, peers: Peers, tmp_path: Path
) -> None:
    (decision,) = exported_ids(1)
    ranked = await ranker.rank(["u1"], [["i1"]])
    peers.decided(NOW, "u1", decision, rank_id=ranked.rank_id, event="u1-i1")
    assert await export(ranker, tmp_path, NOW + timedelta(minutes=30)) is None
    early = await export(ranker, tmp_path, NOW + timedelta(hours=2))
    assert early is not None
    assert label(early, 0, Head.SESSION_1H) == 0
    assert label(early, 0, Head.PUSH_OPEN) == -1
    late = await export(ranker, tmp_path, NOW + 2 * DAY)
    assert late is not None
    assert label(late, 0, Head.PUSH_OPEN) == 0
    assert label(late, 0, Head.SESSION_3D) == -1


async def test_silence_sampling_and_drops(ranker: Ranker, peers: Peers, tmp_path: Path) -> None:
    silent, dropped, email = exported_ids(3)
    (left_out,) = exported_ids(1, kept=False)
    ranked = await ranker.rank(["u1"], [["i1"]])
    peers.decided(NOW, "u1", silent, rank_id=ranked.rank_id)
    peers.decided(NOW, "u1", dropped, rank_id=ranked.rank_id, event="u1-i1")
    peers.dropped(NOW, "u1", dropped)
    peers.decided(NOW, "u1", email, rank_id=ranked.rank_id, event="u1-i1", channel=EMAIL)
    peers.engaged(NOW, "u1", email, "i1", DISMISS, EMAIL)
    peers.decided(NOW, "u1", left_out, rank_id=ranked.rank_id, event="u1-i1")
    peers.decided(NOW, "u1", "20260105.ready", event="e9")
    peers.decided(NOW, "u1", "20260105.lost", rank_id="20260105.no-such", event="u1-i1")
    examples = await export(ranker, tmp_path, NOW + 5 * DAY)
    assert examples is not None
    rows = {decision: row for row, decision in enumerate(examples.decision_id)}
    assert rows.keys() == {silent, email}
    assert examples.channel[rows[silent]] == Channel.NONE
    assert label(examples, rows[silent], Head.PUSH_OPEN) == -1
    assert label(examples, rows[silent], Head.SESSION_1D) == 0
    assert not examples.events["event_items"][rows[silent]].any()
    assert label(examples, rows[email], Head.EMAIL_CLICK) == 0
    np.testing.assert_allclose(examples.log_probability[[rows[silent], rows[email]]], [0.1, 1.0])


async def test_only_the_interval_is_exported(ranker: Ranker, peers: Peers, tmp_path: Path) -> None:
    for number, moment in enumerate((NOW - DAY, NOW, NOW + DAY)):
        ranked = await ranker.rank(["u1"], [["i1"]], moment)
        decision = f"{moment:%Y%m%d}.d{number}"
        peers.decided(moment, "u1", decision, rank_id=ranked.rank_id, event="u1-i1")
        peers.engaged(moment, "u1", decision, "i1", DISMISS)
    examples = await export(ranker, tmp_path, NOW + 6 * DAY, NOW, NOW + DAY)
    assert examples is not None
    assert examples.decision_id == ["20260105.d1"]


async def test_an_interval_of_all_years_walks_only_the_days_there_are(
    ranker: Ranker, peers: Peers, tmp_path: Path
) -> None:
    for number, moment in enumerate((NOW - 3 * DAY, NOW)):
        ranked = await ranker.rank(["u1"], [["i1"]], moment)
        decision = f"{moment:%Y%m%d}.d{number}"
        peers.decided(moment, "u1", decision, rank_id=ranked.rank_id, event="u1-i1")
        peers.engaged(moment, "u1", decision, "i1", DISMISS)
    first, last = datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)
    async with asyncio.timeout(30):  # 2.9 million calendar days would take hours
        examples = await export(ranker, tmp_path, NOW + 6 * DAY, first, last)
    assert examples is not None
    assert examples.decision_id == ["20260102.d0", "20260105.d1"]


async def test_an_empty_interval_is_refused(ranker: Ranker) -> None:
    message = ranker_pb2.ExportTrainingDataRequest(start_time=stamp(NOW), end_time=stamp(NOW))
    with at(NOW), pytest.raises(grpc.aio.AioRpcError) as caught:
        [each async for each in ranker.stub.ExportTrainingData(message)]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_erased_users_leave_nothing(ranker: Ranker, peers: Peers, tmp_path: Path) -> None:
    ranked = await ranker.rank(["u1", "u2"], [["i1"], ["i1"]])
    for user in ("u1", "u2"):
        decision = f"20260105.{user}"
        peers.decided(NOW, user, decision, rank_id=ranked.rank_id, event=f"{user}-i1")
        peers.sent(NOW, user, decision, "i1")
        peers.engaged(NOW, user, decision, "i1")
        peers.session(NOW, user, f"s-{user}")
    later = NOW + 5 * DAY
    await ranker.rank(["reader"], [["i1"]], later)
    with at(later):
        message = ranker_pb2.EraseUserRequest(user_id="u1")
        first = await ranker.stub.EraseUser(message)
        again = await ranker.stub.EraseUser(message)
    assert first.removed_count == 5  # state, snapshot, decision, outcome, session
    assert again.removed_count == 0
    examples = await export(ranker, tmp_path, later)
    assert examples is not None
    assert set(examples.user_id) == {"u2"}
    fresh = await ranker.rank(["u1"], [["i1"]], later)
    found = {f.name: f for f in (await ranker.snapshot(fresh.rank_id, "u1", later)).features}
    assert not any(found["counts"].values)
