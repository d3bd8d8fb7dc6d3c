"""When a folder's model is served, and what is said of one that is harmed or knows few."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.candidate.index.model_folder import ModelFolder
from services.candidate.models import CandidateModel, FitOptions, Interactions, fit, save
from services.candidate.sources.arrays import NONE, Rows


def rows(stored: int, known: int) -> Rows:
    return np.where(np.arange(stored) < known, np.arange(stored), NONE)


def test_a_model_of_other_ids_is_told_by_side(tmp_path: Path) -> None:
    with capture_logs() as logs:
        folder = ModelFolder(tmp_path, structlog.get_logger())
        folder.compare({"users": rows(1000, 10), "items": rows(100, 1)})
        folder.compare({"users": rows(0, 0), "items": rows(0, 0)})
        assert logs == []
        folder.compare({"users": rows(1000, 9), "items": rows(100, 0)})
    assert [(line["log_level"], line["side"], line["known"], line["stored"]) for line in logs] == [
        ("warning", "users", 9, 1000),
        ("warning", "items", 0, 100),
    ]


def fitted(seed: int) -> CandidateModel:
    random = np.random.default_rng(seed)
    users, items = random.integers(0, 12, 60), random.integers(0, 6, 60)
    names = [f"u{row}" for row in range(12)], [f"i{row}" for row in range(6)]
    likes = Interactions(*names, users, items, None, np.ones(60, np.float32))
    return fit(likes, FitOptions(effort="quick"))


@pytest.mark.parametrize("harm", ["short", "altered"])
async def test_a_file_harmed_under_the_same_manifest_is_told_once(
    tmp_path: Path, harm: str
) -> None:
    save(fitted(0), tmp_path / "model")
    file = tmp_path / "model" / "users_vectors.npy"
    whole = file.read_bytes()
    with capture_logs() as logs:
        folder = ModelFolder(tmp_path / "model", structlog.get_logger())
        before = refused()
        assert await folder.newer() is not None
        assert await folder.newer() is None
        file.write_bytes(whole[:-1] if harm == "short" else whole[:-1] + b"\x01")
        assert await folder.newer() is None
        assert await folder.newer() is None
        assert refused() == before + 1
        file.write_bytes(whole)
        assert await folder.newer() is None  # it never ceased to be served
    assert [line["event"] for line in logs] == ["model_served", "model_refused"]
    assert str(file) in logs[1]["reason"]


async def test_a_folder_is_served_once_its_last_file_is_whole(tmp_path: Path) -> None:
    """As when files are copied one after the other, the manifest among the first."""
    save(fitted(0), tmp_path / "model")
    file = tmp_path / "model" / "users_vectors.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    folder = ModelFolder(tmp_path / "model", structlog.get_logger())
    assert await folder.newer() is None
    file.write_bytes(whole)
    assert await folder.newer() is not None
    save(fitted(1), tmp_path / "model")
    assert await folder.newer() is not None


def refused() -> float:
    return REGISTRY.get_sample_value("heliograph_candidate_models_refused_total") or 0.0
