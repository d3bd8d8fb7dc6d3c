"""Model versions: listing, promotion, refusal, and what serves after a restart."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from heliograph.ranker.v1alpha1 import ranker_pb2

from services.runtime.clock import at
from tests.conftest import StartSystem
from tests.service.ranker.conftest import NOW, Ranker, request
from tests.service.ranker.model_folders import DEFAULT, copy_model
from tests.service.ranker.test_rank import reason_of


@pytest.fixture
def registry(tmp_path: Path, beside: dict[str, str]) -> Path:
    """A registry with the default model, an older copy, and a newer one that is altered."""
    folder = tmp_path / "models"
    beside["HELIOGRAPH_RANKER_MODEL_DIR"] = str(folder)
    copy_model(folder, DEFAULT)
    copy_model(folder, "older", train_time="2020-01-01T00:00:00+00:00")
    copy_model(folder, "altered", train_time="2030-01-01T00:00:00+00:00")
    with (folder / "altered" / "model.onnx").open("ab") as file:
        file.write(b"x")
    copy_model(folder, "foreign", train_time="2010-01-01T00:00:00+00:00", schema_hash="0" * 16)
    (folder / "empty").mkdir()
    return folder


async def promote(ranker: Ranker, version: str, request_id: str = "r1") -> ranker_pb2.Model:
    message = ranker_pb2.PromoteModelRequest(version=version, request_id=request_id)
    with at(NOW):
        return (await ranker.stub.PromoteModel(message)).model


async def listed(ranker: Ranker, size: int = 0) -> list[ranker_pb2.Model]:
    """All models, page by page."""
    found: list[ranker_pb2.Model] = []
    message = ranker_pb2.ListModelsRequest(page_size=size)
    while True:
        with at(NOW):
            answer = await ranker.stub.ListModels(message)
        assert len(answer.models) <= (size or 100)
        found += answer.models
        if not answer.next_page_token:
            return found
        message.page_token = answer.next_page_token


@pytest.mark.parametrize("size", [0, 1, 2])
async def test_models_are_listed_newest_first(registry: Path, ranker: Ranker, size: int) -> None:
    models = await listed(ranker, size)
    assert [model.version for model in models] == ["altered", DEFAULT, "older", "foreign"]
    assert [model.promoted for model in models] == [False, True, False, False]
    assert models[1].card.startswith("# Ranking model")
    assert len(models[1].sha256) == 64


async def test_the_newest_that_can_be_loaded_serves(registry: Path, ranker: Ranker) -> None:
    response = await ranker.rank(["u1"], [["i1"]])
    assert list(response.model_versions) == [DEFAULT]


async def test_promotion_switches_and_outlives_a_restart(
    registry: Path, beside: dict[str, str], start_system: StartSystem
) -> None:
    async with start_system("ranker", simulation=True, environ=beside) as system:
        ranker = Ranker(system.channel("ranker"))
        assert (await promote(ranker, "older")).promoted
        response = await ranker.rank(["u1"], [["i1"]])
        assert list(response.model_versions) == ["older"]
    async with start_system("ranker", simulation=True, environ=beside) as system:
        ranker = Ranker(system.channel("ranker"))
        response = await ranker.rank(["u1"], [["i1"]])
        assert list(response.model_versions) == ["older"]


async def test_a_request_id_promotes_once(registry: Path, ranker: Ranker) -> None:
    await promote(ranker, "older", "a")
    await promote(ranker, DEFAULT, "b")
    assert (await promote(ranker, "older", "a")).version == "older"
    response = await ranker.rank(["u1"], [["i1"]])
    assert list(response.model_versions) == [DEFAULT]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await promote(ranker, "older", "b")
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize("version", ["altered", "foreign", "empty"])
async def test_a_bad_model_is_refused_and_the_old_one_serves(
    registry: Path, ranker: Ranker, version: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await promote(ranker, version)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(caught.value) == "MODEL_REFUSED"
    response = await ranker.rank(["u1"], [["i1"]])
    assert list(response.model_versions) == [DEFAULT]


async def test_an_unknown_model_is_not_promoted(registry: Path, ranker: Ranker) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await promote(ranker, "none-such")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(caught.value) == "UNKNOWN_MODEL"


async def test_experiments_choose_a_version_per_user(registry: Path, ranker: Ranker) -> None:
    message = request(["u1", "u2"], [["i1"], ["i1"]])
    message.users[1].model_version = "older"
    response = await ranker.call(message)
    assert list(response.model_versions) == [DEFAULT, "older"]


async def test_an_empty_registry_says_so(
    tmp_path: Path, beside: dict[str, str], start_system: StartSystem
) -> None:
    beside["HELIOGRAPH_RANKER_MODEL_DIR"] = str(tmp_path / "nothing")
    async with start_system("ranker", simulation=True, environ=beside) as system:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await Ranker(system.channel("ranker")).rank(["u1"], [["i1"]])
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(caught.value) == "NO_MODEL"


async def test_a_made_up_page_token_is_refused(ranker: Ranker) -> None:
    message = ranker_pb2.ListModelsRequest(page_token="x")
    with at(NOW), pytest.raises(grpc.aio.AioRpcError) as caught:
        await ranker.stub.ListModels(message)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
