"""What is said of a served model that knows few of the stored users or items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import structlog
from structlog.testing import capture_logs

from services.candidate.index.model_folder import ModelFolder
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
