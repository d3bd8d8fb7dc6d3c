"""How near a model must come to its golden set."""

from pathlib import Path

import numpy as np
import pytest

from services.ranker.acceptance import check_parity
from services.ranker.backend import ModelRefused
from services.ranker.features import HEADS
from services.ranker.golden import read_golden
from services.ranker.manifest import HALF_MODEL_FILE, MODEL_FILE, Manifest, read_manifest
from services.ranker.settings import RankerSettings

FOLDER: Path = RankerSettings().model_dir / "bootstrap-1"


@pytest.fixture
def manifest() -> Manifest:
    return read_manifest(FOLDER)


@pytest.fixture
def logits(manifest: Manifest) -> np.ndarray:
    golden = read_golden(manifest, FOLDER)
    assert golden is not None
    return golden[1]


@pytest.mark.parametrize(("model_file", "near"), [(MODEL_FILE, 5e-5), (HALF_MODEL_FILE, 4e-3)])
def test_a_difference_within_the_precision_is_allowed(
    manifest: Manifest, logits: np.ndarray, model_file: str, near: float
) -> None:
    column = manifest.heads.index(manifest.trained_heads[-1])
    answered = logits.copy()
    answered[-1, column] += near
    check_parity(manifest, model_file, answered, logits)
    answered[-1, column] += 2 * near
    with pytest.raises(ModelRefused, match="logits differ by"):
        check_parity(manifest, model_file, answered, logits)
    answered[-1, column] = np.nan
    with pytest.raises(ModelRefused, match="logits differ by nan"):
        check_parity(manifest, model_file, answered, logits)


def test_heads_that_answer_a_constant_do_not_count(manifest: Manifest, logits: np.ndarray) -> None:
    answered = logits.copy()
    untrained = [head not in manifest.trained_heads for head in HEADS]
    assert any(untrained)
    answered[:, untrained] += 1
    check_parity(manifest, MODEL_FILE, answered, logits)
