"""A candidate service on a fresh database, in simulation mode at a fixed time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.runtime.clock import at
from tests.conftest import StartSystem
from tests.service.candidate.calls import NOW, Candidate


@pytest.fixture
async def candidate(start_system: StartSystem) -> AsyncIterator[Candidate]:
    environ = {"HELIOGRAPH_CANDIDATE_POOL_SIZE": "5"}
    async with start_system("candidate", simulation=True, environ=environ) as system:
        with at(NOW):
            yield Candidate(system.channel("candidate"))
