"""Versions are loaded once, and unloaded when nobody holds them."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.ranker.inprocess import InProcessBackend
from services.ranker.loading import LoadedModels
from services.ranker.manifest import Manifest
from services.ranker.registry import Registry
from services.runtime.errors import FailedPrecondition, NotFound
from tests.service.ranker.model_folders import copy_model, shifted_model
from tests.unit.ranker.random_inputs import random_inputs

INPUTS = random_inputs(0, 2, 6, 5)


class Counting(InProcessBackend):
    """Counts what it is told to load."""

    def __init__(self) -> None:
        super().__init__(intra_op_threads=1, parallel_runs=1)
        self.loads: list[str] = []

    async def load(self, manifest: Manifest, folder: Path) -> str:
        self.loads.append(manifest.version)
        return await super().load(manifest, folder)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    copy_model(tmp_path, "a")
    copy_model(tmp_path, "b")
    shifted_model(tmp_path, "drifted", 0.5, golden=False)
    return Registry(tmp_path)


@pytest.fixture
async def backend() -> AsyncIterator[Counting]:
    made = Counting()
    yield made
    await made.close()


async def test_a_version_is_loaded_once(registry: Registry, backend: Counting) -> None:
    models = LoadedModels(registry, backend, timedelta(minutes=1))

    async def hold() -> None:
        async with models.held(["a", "b", "a"]) as served:
            assert {name: each.version for name, each in served.items()} == {"a": "a", "b": "b"}

    await asyncio.gather(hold(), hold(), hold())
    assert sorted(backend.loads) == ["a", "b"]


async def test_what_nobody_holds_is_unloaded(registry: Registry, backend: Counting) -> None:
    models = LoadedModels(registry, backend, timedelta(0))
    async with models.held(["a", "b"]):
        async with models.held(["a"]):
            assert await models.unload_idle([]) == []
        assert await models.unload_idle([]) == []
        assert (await backend.score("a", INPUTS)).shape == (6, 9)
    assert await models.unload_idle(["b"]) == ["a"]
    with pytest.raises(KeyError):
        await backend.score("a", INPUTS)
    assert (await backend.score("b", INPUTS)).shape == (6, 9)
    async with models.held(["a"]):
        assert (await backend.score("a", INPUTS)).shape == (6, 9)


async def test_what_was_held_of_late_stays(registry: Registry, backend: Counting) -> None:
    models = LoadedModels(registry, backend, timedelta(minutes=1))
    async with models.held(["a"]):
        pass
    assert await models.unload_idle([]) == []
    assert "a" in models


async def test_a_refused_version_holds_nothing(registry: Registry, backend: Counting) -> None:
    models = LoadedModels(registry, backend, timedelta(0))
    with pytest.raises(FailedPrecondition, match="golden set"):
        async with models.held(["a", "drifted"]):
            pass
    with pytest.raises(NotFound):
        async with models.held(["none-such"]):
            pass
    assert "drifted" not in models
    await models.unload_idle([])
    assert "a" not in models


async def test_a_refusal_holds_for_a_while_unless_it_is_tried_anew(
    registry: Registry, backend: Counting, tmp_path: Path
) -> None:
    models = LoadedModels(registry, backend, timedelta(0))

    async def hold(*, anew: bool = False) -> None:
        async with models.held(["drifted"], anew=anew):
            pass

    refused = await asyncio.gather(*(hold() for _ in range(5)), return_exceptions=True)
    assert {type(error) for error in refused} == {FailedPrecondition}
    assert {str(error) for error in refused} == {str(refused[0])}
    assert backend.loads == ["drifted"]
    shutil.rmtree(tmp_path / "drifted")
    copy_model(tmp_path, "drifted")
    with pytest.raises(FailedPrecondition, match="golden set"):
        await hold()
    await hold(anew=True)
    await hold()
    assert backend.loads == ["drifted", "drifted"]
