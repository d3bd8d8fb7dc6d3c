"""A candidate service on a fresh database, in simulation mode at a fixed time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from heliograph.type.v1alpha1 import event_pb2

from services.runtime.clock import at
from tests.conftest import StartSystem
from tests.service.candidate.calls import (
    IMMEDIATE,
    ITEMS,
    NOW,
    USERS,
    Candidate,
    event_type,
    interaction,
    stamp,
)


@pytest.fixture
async def candidate(start_system: StartSystem) -> AsyncIterator[Candidate]:
    environ = {"HELIOGRAPH_CANDIDATE_POOL_SIZE": "5"}
    async with start_system("candidate", simulation=True, environ=environ) as system:
        with at(NOW):
            yield Candidate(system.channel("candidate"))


@pytest.fixture
async def world(candidate: Candidate) -> Candidate:
    """Even users like most even items, odd users odd ones; u00 knows i00 only, and of i10 and i11
    nobody knows anything. The user "new" has done nothing."""
    users = [event_pb2.User(user_id=name) for name in [*USERS, "new"]]
    for user in users:
        user.attributes["age"].int_value = 30
    await candidate.users(users)
    await candidate.items(
        [event_pb2.Item(item_id=n, create_time=stamp(NOW - timedelta(days=90))) for n in ITEMS]
    )
    await candidate.prepare(
        kinds=[event_type("item.suggestion"), event_type("offer"), event_type("code", IMMEDIATE)]
    )
    liked = [
        interaction(user, item)
        for u, user in enumerate(USERS)
        for i, item in enumerate(ITEMS[:10])
        if (u + i) % 2 == 0 and (u + 3 * i) % 5 != 0 and (u > 0 or i == 0)
    ]
    await candidate.interactions([*liked, interaction("u00", "i00")])
    return candidate
