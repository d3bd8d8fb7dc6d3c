"""Starts the frame on real gRPC and real Postgres, with small handlers in place of services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from pydantic import SecretStr

from services.runtime import Bind
from services.runtime.settings import SERVICE_NAMES, Endpoint, RuntimeSettings
from services.runtime.system import System

StartFrame = Callable[..., Awaitable[System]]


@pytest.fixture
async def start_frame(database_url: str, secret_key: SecretStr) -> AsyncIterator[StartFrame]:
    """`await start_frame({"policy": bind}, simulation=True)`: a system that stops with the test."""
    async with AsyncExitStack() as running:

        async def start(binds: Mapping[str, Bind], **settings: Any) -> System:
            free: dict[str, Any] = dict.fromkeys(SERVICE_NAMES, Endpoint())
            made = RuntimeSettings(
                **{
                    **free,
                    "environment": "test",
                    "database_url": SecretStr(database_url),
                    "secret_key": secret_key,
                    "shutdown_grace_s": 1.0,
                    **settings,
                }
            )
            return await running.enter_async_context(System(binds, made))

        yield start
