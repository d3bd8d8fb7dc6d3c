"""A running policy service on simulated time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from heliograph.policy.v1alpha1 import policy_pb2_grpc

from tests.conftest import OpenDatabase, StartSystem
from tests.service.policy.recorded import Policy, recipient


@pytest.fixture
async def policy(start_system: StartSystem, open_database: OpenDatabase) -> AsyncIterator[Policy]:
    """The service on simulated time, with a recipient `ann` who joined 100 days ago."""
    async with start_system("policy", simulation=True) as system:
        stub = policy_pb2_grpc.PolicyServiceStub(system.channel("policy"))
        running = Policy(stub, open_database("policy"))
        await running.upsert(recipient())
        yield running
