"""The golden set: inputs of a model, and the logits that the trained model itself gave them.

Training writes it beside the model. Whatever runs the model later must answer the same.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.schema import Features
from services.ranker.manifest import (
    GOLDEN_FILE,
    HALF_MODEL_FILE,
    MODEL_FILE,
    Manifest,
    ManifestError,
    file_sha256,
)

PARITY: Mapping[str, float] = {MODEL_FILE: 1e-4, HALF_MODEL_FILE: 5e-3}
"""Largest difference of logits of trained heads, by the file that answered."""
_LOGITS = "logits"


def write_golden(folder: Path, inputs: Features, logits: NDArray[np.float32]) -> str:
    """Write the inputs of one run and their logits [N, heads]; gives the file's SHA-256."""
    arrays: dict[str, Any] = {**inputs, _LOGITS: logits}
    np.savez_compressed(folder / GOLDEN_FILE, **arrays)
    return file_sha256(folder / GOLDEN_FILE)


def read_golden(manifest: Manifest, folder: Path) -> tuple[Features, NDArray[np.float32]] | None:
    """Inputs and logits; None where the manifest promises none.

    Raises ManifestError for a file that is missing or isn't the one that was written.
    """
    if not manifest.golden_sha256:
        return None
    path = folder / GOLDEN_FILE
    try:
        if file_sha256(path) != manifest.golden_sha256:
            raise ManifestError(f"{manifest.version}: {GOLDEN_FILE} has another SHA-256")
        with np.load(path, allow_pickle=False) as arrays:
            inputs = dict(arrays)
            return inputs, inputs.pop(_LOGITS)
    except (OSError, ValueError, KeyError) as error:
        raise ManifestError(f"{manifest.version}: {GOLDEN_FILE} can't be read") from error


def largest_difference(
    manifest: Manifest, answered: NDArray[np.float32], expected: NDArray[np.float32]
) -> float:
    """Of logits [N, heads] of the trained heads; NaN where one isn't a number."""
    trained = [manifest.heads.index(head) for head in manifest.trained_heads]
    return float(np.abs(answered[:, trained] - expected[:, trained]).max(initial=0.0))
