"""Daily generation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import grpc
import pytest
from heliograph.candidate.v1alpha1 import generating_pb2

from services.candidate.sources.popular import Popular
from services.runtime.clock import at
from tests.service.candidate.calls import NOW, USERS, Candidate, interaction, reason_of


def accepted(progress: Sequence[generating_pb2.GenerateDailyResponse]) -> int:
    return sum(source.accepted_count for source in progress[-1].sources)


async def test_a_rerun_of_a_day_adds_nothing(world: Candidate) -> None:
    first = await world.generate(candidates_per_source=2)
    assert first[-1].done
    assert first[-1].user_count == first[-1].total_user_count == len(USERS) + 1
    assert accepted(first) > 0
    pool = await world.pool(*USERS, "new")
    assert sum(map(len, pool.values())) == accepted(first)
    one = pool["u04"][0]
    assert one.event_id == f"daily:2026-01-05:{one.item_ids[0]}"
    assert one.event_type == "item.suggestion"
    await world.interactions([interaction("u04", "i11", 10.0)])  # another fit, other proposals
    again = await world.generate(candidates_per_source=2)
    assert accepted(again) == 0
    assert await world.pool(*USERS, "new") == pool


async def test_the_next_day_proposes_other_items(world: Candidate) -> None:
    await world.generate(candidates_per_source=1)
    with at(NOW + timedelta(days=1)):
        await world.generate(candidates_per_source=1)
        history = await world.history("u04")
    items = [entry.event.item_ids[0] for entry in history.values()]
    assert len(items) == len(set(items)) > 1


async def test_shards_cover_all_users_once(world: Candidate) -> None:
    parts = [await world.generate(shard=n, shard_count=3) for n in range(3)]
    assert sum(part[-1].total_user_count for part in parts) == len(USERS) + 1
    assert accepted(await world.generate()) == 0


async def test_invariant_11_a_source_that_fails_is_left_out(
    world: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others' candidates stand, and the next run of the day asks it again."""
    with monkeypatch.context() as patched:
        patched.setattr(Popular, "candidates", Mock(side_effect=RuntimeError("out of order")))
        broken = {one.source: one for one in (await world.generate())[-1].sources}
    assert broken["popular"].failed_user_count == len(USERS) + 1
    assert broken["popular"].proposed_count == 0
    assert broken["collaborative"].accepted_count > 0
    assert broken["collaborative"].failed_user_count == 0
    mended = {one.source: one for one in (await world.generate())[-1].sources}
    assert mended["popular"].proposed_count > 0
    assert mended["collaborative"].proposed_count == 0


async def test_only_named_users_and_sources(world: Candidate) -> None:
    progress = await world.generate(user_ids=["u04", "nobody"], sources=["popular"])
    assert progress[-1].total_user_count == 1
    assert [source.source for source in progress[-1].sources] == ["popular"]
    rest = await world.generate(user_ids=["u04"])
    assert {source.source: source.proposed_count for source in rest[-1].sources}["popular"] == 0


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"sources": ["astrology"]}, grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_SOURCE"),
        ({"user_ids": ["nobody"]}, grpc.StatusCode.NOT_FOUND, "UNKNOWN_USER"),
        ({"day": "2026-02-31"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"day": "2025-12-29"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"day": "0001-01-01"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"day": "today"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"shard": 2, "shard_count": 2}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"candidates_per_source": 101}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    ],
)
async def test_wrong_generation_requests(
    world: Candidate, fields: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await world.generate(**fields)
    assert (failure.value.code(), reason_of(failure.value)) == (code, reason)


async def test_generation_needs_its_event_type(candidate: Candidate) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await candidate.generate()
    assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(failure.value) == "GENERATED_EVENT_TYPE"
