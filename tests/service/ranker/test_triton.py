"""What only the Triton backend must do: a server that goes, comes back, or has another model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from deploy.triton.render import render
from services.ranker.acceptance import accept
from services.ranker.backend import ModelRefused
from services.ranker.features import Features
from services.ranker.manifest import read_manifest
from services.ranker.settings import RankerSettings
from services.ranker.triton import TritonBackend
from services.runtime import calls
from services.runtime.errors import Unavailable
from services.runtime.settings import ConfigurationError, RuntimeSettings
from services.runtime.tls import channel_credentials
from tests.conftest import StartSystem
from tests.service.ranker.conftest import Ranker
from tests.service.ranker.model_folders import DEFAULT, copy_model, shifted_model
from tests.service.ranker.test_rank import reason_of
from tests.service.ranker.triton_process import FEW_BUCKETS, TritonProcess
from tests.service.runtime.certificates import LOOPBACK, Authority
from tests.unit.ranker.random_inputs import random_inputs

FOLDER = RankerSettings().model_dir / DEFAULT
INPUTS = random_inputs(0, 2, 6, 5)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonProcess]:
    made = TritonProcess(tmp_path_factory.mktemp("triton"))
    render(FOLDER, made.repository, sizes=FEW_BUCKETS)
    yield made
    made.stop()


@pytest.fixture
def running(server: TritonProcess) -> TritonProcess:
    """Started anew where a test killed it."""
    if not server.is_running:
        server.start()
    return server


@pytest.fixture
async def backend(running: TritonProcess) -> AsyncIterator[TritonBackend]:
    """With the default model loaded."""
    made = TritonBackend(running.address, timedelta(seconds=1))
    await accept(made, read_manifest(FOLDER), FOLDER)
    yield made
    await made.close()


@pytest.fixture
def deadline() -> Iterator[None]:
    """A call of 20 seconds."""
    calls.set_deadline(20)
    yield
    calls.set_deadline(None)


def reason(error: pytest.ExceptionInfo[Unavailable]) -> str:
    return error.value.reason


async def test_a_server_that_is_gone_makes_scores_unavailable(
    running: TritonProcess, backend: TritonBackend
) -> None:
    running.kill()
    started = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        await backend.score(DEFAULT, INPUTS)
    assert reason(caught) == "TRITON_UNAVAILABLE"
    assert time.monotonic() - started < 5


async def test_the_answer_comes_within_the_deadline(
    running: TritonProcess, backend: TritonBackend
) -> None:
    running.kill()
    calls.set_deadline(0.3)
    try:
        with pytest.raises(Unavailable):
            await backend.score(DEFAULT, INPUTS)
        left = calls.remaining()
        assert left is not None
        assert left > 0
    finally:
        calls.set_deadline(None)


async def test_a_server_that_comes_back_within_the_deadline_is_used(
    running: TritonProcess, backend: TritonBackend, deadline: None
) -> None:
    before = await backend.score(DEFAULT, INPUTS)
    running.kill()
    waiting = asyncio.create_task(backend.score(DEFAULT, INPUTS))
    running.launch()
    np.testing.assert_array_equal(await waiting, before)


async def test_a_server_that_comes_back_with_another_model_gives_no_scores(
    running: TritonProcess, backend: TritonBackend, tmp_path: Path, deadline: None
) -> None:
    running.kill()
    render(shifted_model(tmp_path, DEFAULT, 0.5), running.repository, sizes=FEW_BUCKETS)
    running.start()
    with pytest.raises(Unavailable, match="another model") as caught:
        await backend.score(DEFAULT, INPUTS)
    assert reason(caught) == "TRITON_LOST_MODEL"
    running.kill()
    render(FOLDER, running.repository, sizes=FEW_BUCKETS)


async def test_a_model_that_is_not_in_the_repository_is_refused(
    backend: TritonBackend, tmp_path: Path
) -> None:
    folder = copy_model(tmp_path, "elsewhere")
    with pytest.raises(ModelRefused, match="elsewhere"):
        await accept(backend, read_manifest(folder), folder)


async def test_another_model_under_the_same_name_is_refused(
    running: TritonProcess, backend: TritonBackend, tmp_path: Path
) -> None:
    rendered = shifted_model(tmp_path / "theirs", "same-name", 0.5)
    render(rendered, running.repository, sizes=FEW_BUCKETS)
    ours = copy_model(tmp_path / "ours", "same-name")
    with pytest.raises(ModelRefused, match="another model"):
        await accept(backend, read_manifest(ours), ours)


async def test_a_model_that_does_not_start_is_refused_and_the_old_one_serves(
    running: TritonProcess, backend: TritonBackend, tmp_path: Path
) -> None:
    folder = copy_model(tmp_path, "broken")
    made = render(folder, running.repository, sizes=FEW_BUCKETS)
    (made / "1" / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelRefused, match="broken"):
        await accept(backend, read_manifest(folder), folder)
    assert (await backend.score(DEFAULT, INPUTS)).shape == (6, 9)


def _tensors(inputs: Features) -> list[InferInput]:
    kinds = {"uint8": "UINT8", "int32": "INT32", "float32": "FP32"}
    tensors = []
    for name, array in inputs.items():
        tensor = InferInput(name, list(array.shape), kinds[array.dtype.name])
        tensors.append(tensor.set_data_from_numpy(np.ascontiguousarray(array)))
    return tensors


@pytest.mark.parametrize(
    ("name", "value"), [("user_row", 2), ("user_row", -1), ("send_items", 8), ("send_kinds", 99)]
)
async def test_the_server_itself_refuses_indices_outside_of_their_tables(
    running: TritonProcess, backend: TritonBackend, name: str, value: int
) -> None:
    wrong = {**INPUTS, name: INPUTS[name].copy()}
    wrong[name].flat[0] = value
    async with InferenceServerClient(running.address) as client:
        with pytest.raises(InferenceServerException, match=f"{name} has a value") as caught:
            await client.infer(DEFAULT, _tensors(wrong))
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert (await backend.score(DEFAULT, INPUTS)).shape == (6, 9)


async def test_runs_are_counted_by_bucket(running: TritonProcess, backend: TritonBackend) -> None:
    def counted() -> bool:
        with urlopen(running.metrics) as answer:
            text: str = answer.read().decode()
        runs = [line for line in text.splitlines() if 'bucket="8x160x64"' in line]
        return any(not line.endswith(" 0") for line in runs)

    while not await asyncio.to_thread(counted):
        await backend.score(DEFAULT, INPUTS)


async def test_rank_through_triton_answers_as_in_process(
    running: TritonProcess, beside: dict[str, str], start_system: StartSystem
) -> None:
    users, items = ["u1", "u2"], [["i1", "i2"], ["i3"]]
    async with start_system("ranker", simulation=True, environ=beside) as system:
        expected = await Ranker(system.channel("ranker")).rank(users, items)
    beside |= {
        "HELIOGRAPH_RANKER_BACKEND": "triton",
        "HELIOGRAPH_RANKER_TRITON_ADDRESS": running.address,
    }
    async with start_system("ranker", simulation=True, environ=beside) as system:
        found = await Ranker(system.channel("ranker")).rank(users, items)
    assert found.model_versions == expected.model_versions
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=0)


async def test_rank_says_that_triton_is_down_and_recovers(
    server: TritonProcess, beside: dict[str, str], start_system: StartSystem
) -> None:
    server.kill()
    beside |= {
        "HELIOGRAPH_RANKER_BACKEND": "triton",
        "HELIOGRAPH_RANKER_TRITON_ADDRESS": server.address,
        "HELIOGRAPH_RANKER_TRITON_PATIENCE": "PT0.2S",
    }
    async with start_system("ranker", simulation=True, environ=beside) as system:
        ranker = Ranker(system.channel("ranker"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ranker.rank(["u1"], [["i1"]])
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(caught.value) == "TRITON_UNAVAILABLE"
        server.start()
        assert len((await ranker.rank(["u1"], [["i1"]])).scores) == 9


def test_shared_memory_of_a_killed_server_goes_with_the_next_start(running: TritonProcess) -> None:
    asyncio.run(_load(running.address))
    left = running.regions()
    assert left
    running.kill()
    assert all(path.exists() for path in left)
    running.start()
    assert not any(path.exists() for path in left)


async def _load(address: str) -> None:
    backend = TritonBackend(address, timedelta(seconds=1))
    await accept(backend, read_manifest(FOLDER), FOLDER)
    await backend.close()


async def test_a_version_stays_in_the_server_while_another_replica_uses_it(
    running: TritonProcess, backend: TritonBackend, deadline: None
) -> None:
    other = TritonBackend(running.address, timedelta(seconds=5))
    await accept(other, read_manifest(FOLDER), FOLDER)
    async with InferenceServerClient(running.address) as client:
        await other.unload(DEFAULT, timedelta(minutes=10))
        assert await client.is_model_ready(DEFAULT)
        with pytest.raises(KeyError):
            await other.score(DEFAULT, INPUTS)
        await accept(other, read_manifest(FOLDER), FOLDER)
        await other.unload(DEFAULT)
        while await client.is_model_ready(DEFAULT):
            pass
    await other.close()
    assert (await backend.score(DEFAULT, INPUTS)).shape == (6, 9)


async def test_by_tls_with_certificates_of_one_authority(tmp_path: Path, deadline: None) -> None:
    (tmp_path / "other").mkdir()
    authority, other = Authority(tmp_path), Authority(tmp_path / "other")
    server = TritonProcess(tmp_path, list(authority.issue("triton", LOOPBACK).values()))
    render(FOLDER, server.repository, sizes=FEW_BUCKETS)
    server.start()
    try:
        settings = RuntimeSettings(**authority.issue("ranker"))
        trusted = TritonBackend(
            server.address, timedelta(seconds=10), channel_credentials(settings)
        )
        await accept(trusted, read_manifest(FOLDER), FOLDER)
        assert (await trusted.score(DEFAULT, INPUTS)).shape == (6, 9)
        await trusted.close()
        strange = RuntimeSettings(**other.issue("ranker") | {"tls_ca_file": authority.file})
        for credentials in (None, channel_credentials(strange)):
            stranger = TritonBackend(server.address, timedelta(seconds=1), credentials)
            with pytest.raises(Unavailable, match="doesn't answer"):
                await stranger.load(read_manifest(FOLDER), FOLDER)
            await stranger.close()
    finally:
        server.stop()


async def test_tls_needs_a_certificate(start_system: StartSystem, beside: dict[str, str]) -> None:
    environ = {"HELIOGRAPH_RANKER_BACKEND": "triton", "HELIOGRAPH_RANKER_TRITON_TLS": "true"}
    with pytest.raises(ConfigurationError, match="needs HELIOGRAPH_TLS_CERTIFICATE_FILE"):
        async with start_system("ranker", environ=beside | environ):
            pass
