"""A shadow version scores beside the one that answers, and is compared with it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest
from heliograph.ranker.v1alpha1 import ranker_pb2
from heliograph.type.v1alpha1 import notification_pb2
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from services.ranker.features import Features
from services.ranker.inprocess import InProcessBackend
from services.ranker.shadow_log import Shadow
from services.ranker.shadowing import MOST_WAITING
from services.runtime.clock import at
from tests.conftest import StartSystem
from tests.service.ranker.conftest import NOW, Ranker
from tests.service.ranker.model_folders import DEFAULT, copy_model, limited_model, shifted_model
from tests.service.ranker.test_models import listed
from tests.service.ranker.test_rank import reason_of

USERS, ITEMS = ["u1", "u2"], [["i1", "i2"], ["i3"]]
EVENTS = 3
OPEN = notification_pb2.HEAD_PUSH_OPEN


@pytest.fixture
def registry(tmp_path: Path, beside: dict[str, str]) -> Path:
    """The default model, and another that answers otherwise."""
    folder = tmp_path / "models"
    beside["HELIOGRAPH_RANKER_MODEL_DIR"] = str(folder)
    copy_model(folder, DEFAULT)
    shifted_model(folder, "another", 0.5)
    return folder


async def name(ranker: Ranker, version: str, share: float = 1.0, request_id: str = "s1") -> None:
    message = ranker_pb2.ShadowModelRequest(version=version, share=share, request_id=request_id)
    with at(NOW):
        await ranker.stub.ShadowModel(message)


async def model(ranker: Ranker, version: str) -> ranker_pb2.Model:
    return next(each for each in await listed(ranker) if each.version == version)


async def opens(ranker: Ranker, version: str, events: int) -> ranker_pb2.ShadowComparison:
    """How a version compares in opens, once so many events are."""
    while True:
        for each in (await model(ranker, version)).shadow_comparisons:
            if each.head == OPEN and each.event_count >= events:
                return each


def counted(result: str) -> float:
    value = REGISTRY.get_sample_value("heliograph_ranker_shadow_calls_total", {"result": result})
    return value or 0.0


async def test_a_shadow_is_compared_and_does_not_answer(registry: Path, ranker: Ranker) -> None:
    assert not (await model(ranker, "another")).shadow_comparisons
    await name(ranker, "another")
    served = []
    for _ in range(2):
        response = await ranker.rank(USERS, ITEMS)
        assert set(response.model_versions) == {DEFAULT}
        served += list(response.scores)[::9]
    found = await opens(ranker, "another", 2 * EVENTS)
    assert (found.event_count, found.served_version) == (2 * EVENTS, DEFAULT)
    assert found.mean_served_score == pytest.approx(np.mean(served), rel=1e-5)
    shifted = 1 / (1 + np.exp(-(np.log(served) - np.log1p(-np.array(served)) + 0.5)))
    assert found.mean_shadow_score == pytest.approx(np.mean(shifted), rel=1e-4)
    assert found.mean_absolute_difference == pytest.approx(np.mean(shifted - served), rel=1e-3)
    assert found.mean_rank_correlation == pytest.approx(1.0)
    shown = await model(ranker, "another")
    assert shown.shadow_share == 1.0
    assert {each.head for each in shown.shadow_comparisons} == set(shown.trained_heads)
    assert not (await model(ranker, DEFAULT)).shadow_comparisons
    labels = {"version": "another", "served_version": DEFAULT, "head": "push_open"}
    assert REGISTRY.get_sample_value("heliograph_ranker_shadow_difference_count", labels)


async def test_another_replica_follows_and_what_they_find_adds_up(
    registry: Path, beside: dict[str, str], start_system: StartSystem
) -> None:
    async with (
        start_system("ranker", simulation=True, environ=beside) as one,
        start_system("ranker", simulation=True, environ=beside) as two,
    ):
        first, second = Ranker(one.channel("ranker")), Ranker(two.channel("ranker"))
        await name(first, "another")
        await first.rank(USERS, ITEMS)
        await opens(first, "another", EVENTS)
        await second.rank(USERS, ITEMS, NOW + timedelta(minutes=1))
        await opens(second, "another", 2 * EVENTS)
        assert (await opens(first, "another", 2 * EVENTS)).event_count == 2 * EVENTS
        await name(second, "", request_id="s2")
        await first.rank(USERS, ITEMS, NOW + timedelta(minutes=2))
        assert (await model(first, "another")).shadow_share == 0
        assert (await opens(first, "another", 2 * EVENTS)).event_count == 2 * EVENTS


async def test_a_version_named_again_is_compared_anew(registry: Path, ranker: Ranker) -> None:
    await name(ranker, "another")
    await ranker.rank(USERS, ITEMS)
    await opens(ranker, "another", EVENTS)
    await name(ranker, "another", share=0.5, request_id="s2")
    found = await model(ranker, "another")
    assert found.shadow_share == 0.5
    assert not found.shadow_comparisons


async def test_a_request_id_names_once(registry: Path, ranker: Ranker) -> None:
    await name(ranker, "another", request_id="a")
    await name(ranker, "", request_id="b")
    await name(ranker, "another", request_id="a")
    assert (await model(ranker, "another")).shadow_share == 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await name(ranker, "another", share=0.5, request_id="a")
    assert reason_of(caught.value) == "REQUEST_ID_REUSED"


async def test_a_version_that_cannot_serve_does_not_shadow(registry: Path, ranker: Ranker) -> None:
    await name(ranker, "another")
    shifted_model(registry, "drifted", 0.5, golden=False)
    for version, why in (("drifted", "MODEL_REFUSED"), ("none-such", "UNKNOWN_MODEL")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await name(ranker, version, request_id=version)
        assert reason_of(caught.value) == why
    assert (await model(ranker, "another")).shadow_share == 1.0


async def test_a_shadow_that_fails_or_hangs_holds_no_answer_up(
    registry: Path, ranker: Ranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    score = InProcessBackend.score

    async def hanging(
        self: InProcessBackend, version: str, inputs: Features
    ) -> NDArray[np.float32]:
        if version == "another":
            await gate.wait()
            raise RuntimeError("broken")
        return await score(self, version, inputs)

    await name(ranker, "another")
    monkeypatch.setattr(InProcessBackend, "score", hanging)
    dropped, failed = counted("dropped"), counted("failed")
    for _ in range(MOST_WAITING + 4):
        response = await ranker.rank(USERS, ITEMS)
        assert set(response.model_versions) == {DEFAULT}
        assert not response.rejections
    assert counted("dropped") - dropped == 3
    gate.set()
    while counted("failed") - failed < MOST_WAITING + 1:
        await ranker.rank(USERS, ITEMS)
    monkeypatch.undo()
    await ranker.rank(USERS, ITEMS)
    await opens(ranker, "another", EVENTS)


async def test_scores_of_the_shadow_that_are_no_numbers_are_left_out(
    registry: Path, ranker: Ranker
) -> None:
    limited_model(registry, "limited", events=50)
    await name(ranker, "limited")
    await ranker.rank(["u1"], [[f"i{n}" for n in range(60)]])
    await ranker.rank(USERS, ITEMS)
    assert (await opens(ranker, "limited", EVENTS)).event_count == EVENTS


def test_a_share_is_chosen_by_the_rank_id() -> None:
    calls = [f"20260105.{number}" for number in range(4000)]
    some, more = Shadow(1, "another", 0.1), Shadow(2, "another", 0.3)
    taken = {call for call in calls if some.takes(call)}
    assert 300 < len(taken) < 500
    assert taken < {call for call in calls if more.takes(call)}
    assert all(Shadow(3, "another", 1.0).takes(call) for call in calls)
    assert not any(Shadow(4, "another", 0.0).takes(call) for call in calls)
    assert not any(Shadow(5, "", 1.0).takes(call) for call in calls)
