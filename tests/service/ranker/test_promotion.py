"""A version takes over while calls go on, or is refused and none notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest
from heliograph.ranker.v1alpha1 import ranker_pb2

from services.ranker.inprocess import InProcessBackend
from services.runtime.clock import at
from tests.conftest import StartSystem
from tests.service.ranker.conftest import NOW, Ranker, request
from tests.service.ranker.model_folders import DEFAULT, copy_model, limited_model, shifted_model
from tests.service.ranker.test_models import promote
from tests.service.ranker.test_rank import reason_of
from tests.unit.ranker.random_inputs import logits

SHIFT = 0.5
USERS, ITEMS = ["u1", "u2"], [["i1", "i2"], ["i3"]]
OPEN = 0
"""The column of a trained head."""


@pytest.fixture
def registry(tmp_path: Path, beside: dict[str, str]) -> Path:
    """Nothing but the default model."""
    folder = tmp_path / "models"
    beside["HELIOGRAPH_RANKER_MODEL_DIR"] = str(folder)
    copy_model(folder, DEFAULT)
    return folder


class Answers:
    """Of calls without a pause: their versions, and their logits of one head."""

    def __init__(self) -> None:
        self.versions: list[str] = []
        self.opens: dict[str, np.ndarray] = {}
        self._came = asyncio.Event()

    async def of_calls(self, ranker: Ranker) -> None:
        """Call until cancelled. A call that fails fails the test."""
        while True:
            response = await ranker.rank(USERS, ITEMS)
            (version,) = set(response.model_versions)
            self.versions.append(version)
            scores = np.array(response.scores, np.float32).reshape(3, 9)
            assert np.isfinite(scores).all()
            assert not response.rejections
            self.opens[version] = logits(scores)[:, OPEN]
            self._came.set()

    async def more(self, count: int = 20) -> None:
        """Wait for so many further ones."""
        wanted = len(self.versions) + count
        while len(self.versions) < wanted:
            self._came.clear()
            await self._came.wait()


@asynccontextmanager
async def calls(ranker: Ranker) -> AsyncIterator[Answers]:
    """Four callers that go on meanwhile."""
    answers = Answers()
    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(answers.of_calls(ranker)) for _ in range(4)]
        await answers.more()
        yield answers
        for caller in callers:
            caller.cancel()


async def test_a_promoted_version_takes_over_without_a_dropped_call(
    registry: Path, ranker: Ranker
) -> None:
    shifted_model(registry, "newer", SHIFT)
    async with calls(ranker) as answers:
        await promote(ranker, "newer")
        begun_before = 4
        at_switch = len(answers.versions) + begun_before
        await answers.more(begun_before + 20)
    assert set(answers.versions) == {DEFAULT, "newer"}
    assert set(answers.versions[at_switch:]) == {"newer"}
    np.testing.assert_allclose(
        answers.opens["newer"] - answers.opens[DEFAULT], SHIFT, rtol=0, atol=1e-3
    )


async def test_a_bad_candidate_is_refused_and_no_call_notices(
    registry: Path, ranker: Ranker
) -> None:
    shifted_model(registry, "drifted", SHIFT, golden=False)
    async with calls(ranker) as answers:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await promote(ranker, "drifted")
        await answers.more()
    assert reason_of(caught.value) == "MODEL_REFUSED"
    assert "logits differ by 5.00e-01" in (caught.value.details() or "")
    assert set(answers.versions) == {DEFAULT}


async def test_a_candidate_that_cannot_score_requests_of_late_is_refused(
    registry: Path, ranker: Ranker
) -> None:
    limited_model(registry, "limited", events=100)
    await ranker.rank(USERS, ITEMS)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await promote(ranker, "limited")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(caught.value) == "MODEL_REFUSED"
    assert set((await ranker.rank(USERS, ITEMS)).model_versions) == {DEFAULT}


async def test_without_requests_of_late_trial_and_golden_set_decide(
    registry: Path, ranker: Ranker
) -> None:
    limited_model(registry, "limited", events=100)
    await promote(ranker, "limited")
    assert set((await ranker.rank(USERS, ITEMS)).model_versions) == {"limited"}


async def test_another_replica_follows_only_to_a_version_that_rehearsed_well(
    registry: Path, beside: dict[str, str], start_system: StartSystem
) -> None:
    async with (
        start_system("ranker", simulation=True, environ=beside) as first,
        start_system("ranker", simulation=True, environ=beside) as second,
    ):
        promoting, following = Ranker(first.channel("ranker")), Ranker(second.channel("ranker"))
        limited_model(registry, "limited", events=100)
        shifted_model(registry, "newer", SHIFT)
        await promote(promoting, "limited", "r1")
        await promoting.rank(USERS, ITEMS)
        later = NOW + timedelta(minutes=1)
        found = await following.rank(USERS, ITEMS, later)
        assert set(found.model_versions) == {DEFAULT}
        await promote(promoting, "newer", "r2")
        found = await following.rank(USERS, ITEMS, later + timedelta(minutes=1))
        assert set(found.model_versions) == {"newer"}


async def test_a_version_in_use_stays_loaded_and_an_idle_one_is_unloaded(
    registry: Path,
    beside: dict[str, str],
    start_system: StartSystem,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy_model(registry, "experiment", train_time="2020-01-01T00:00:00+00:00")
    unloaded: list[str] = []
    unload = InProcessBackend.unload

    async def noted(self: InProcessBackend, version: str, idle: timedelta = timedelta(0)) -> None:
        unloaded.append(version)
        await unload(self, version, idle)

    monkeypatch.setattr(InProcessBackend, "unload", noted)
    beside["HELIOGRAPH_RANKER_UNLOAD_AFTER"] = "PT0S"

    async def rank(ranker: Ranker, minute: int) -> ranker_pb2.RankResponse:
        message = request(["u1", "u2"], [["i1"], ["i2"]])
        message.users[1].model_version = "experiment"
        return await ranker.call(message, NOW + timedelta(minutes=minute))

    async with start_system("ranker", simulation=True, environ=beside) as system:
        ranker = Ranker(system.channel("ranker"))
        for start in range(0, 30, 3):  # each minute what is idle is looked for
            for response in await asyncio.gather(*(rank(ranker, start + n) for n in range(3))):
                assert list(response.model_versions) == [DEFAULT, "experiment"]
                assert not response.rejections
        with at(NOW + timedelta(hours=1)):
            await ranker.stub.ListModels(ranker_pb2.ListModelsRequest())
    assert set(unloaded) == {"experiment"}
