"""Promotions and those who follow them don't cross."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.ranker.inprocess import InProcessBackend
from services.ranker.loading import LoadedModels
from services.ranker.promotion import Models
from services.ranker.rank_log import RankLog
from services.ranker.registry import Registry
from services.ranker.rehearsal import Rehearsal
from services.runtime.logs import logger
from tests.service.ranker.model_folders import copy_model

NOW = datetime(2026, 1, 5, tzinfo=UTC)


class SlowLog(RankLog):
    """Answers what is promoted when the gate is open, with what was promoted when asked."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self.version = "a"

    async def promoted_version(self) -> str | None:
        version = self.version
        self.asked.set()
        await self.gate.wait()
        return version

    async def promotion(self, request_id: str) -> str | None:
        return None

    async def promote(self, version: str, request_id: str, now: datetime) -> None:
        self.version = version


class NoRequests(Rehearsal):
    def __init__(self) -> None:
        pass

    async def run(self, version: str) -> int:
        return 0


@pytest.fixture
async def backend() -> AsyncIterator[InProcessBackend]:
    made = InProcessBackend(intra_op_threads=1, parallel_runs=1)
    yield made
    await made.close()


async def test_what_was_promoted_before_does_not_come_back(
    tmp_path: Path, backend: InProcessBackend
) -> None:
    copy_model(tmp_path, "a")
    copy_model(tmp_path, "b")
    registry, log = Registry(tmp_path), SlowLog()
    loaded = LoadedModels(registry, backend, timedelta(minutes=1))
    models = Models(registry, loaded, NoRequests(), log, logger("ranker"))
    await models.follow()
    assert models.promoted == "a"
    log.gate.clear()
    log.asked.clear()
    following = asyncio.create_task(models.follow())
    await log.asked.wait()
    promoting = asyncio.create_task(models.promote("b", "r1", NOW))
    await asyncio.wait([promoting], timeout=1)
    log.gate.set()
    await asyncio.gather(following, promoting)
    assert models.promoted == "b"
