"""What a model must be and do before it may serve, whichever backend runs it."""

import asyncio
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.ranker.backend import Backend, ModelRefused
from services.ranker.features import (
    HEADS,
    EventFacts,
    Features,
    FeatureState,
    ItemTable,
    UserSignals,
    event_features,
    model_inputs,
    schema_hash,
    user_features,
)
from services.ranker.golden import PARITY, largest_difference, read_golden
from services.ranker.manifest import MODEL_FILE, Manifest, ManifestError, file_sha256
from services.runtime.errors import Unavailable


async def accept(backend: Backend, manifest: Manifest, folder: Path) -> None:
    """Load a version and have it answer the trial and its golden set; nothing of a refused one
    stays loaded.

    Raises ModelRefused, and Unavailable as `Backend.load`.
    """
    await asyncio.to_thread(check_folder, manifest, folder)
    try:
        golden = await asyncio.to_thread(read_golden, manifest, folder)
    except ManifestError as error:
        raise ModelRefused(str(error)) from error
    model_file = await backend.load(manifest, folder)
    try:
        check_scores(manifest.version, await backend.score(manifest.version, trial()))
        if golden is not None:
            inputs, expected = golden
            answered = await backend.logits(manifest.version, inputs)
            check_parity(manifest, model_file, answered, expected)
    except Unavailable:
        raise  # the next try finds it loaded
    except Exception as error:  # each backend has exceptions of its own
        await backend.unload(manifest.version)
        if isinstance(error, ModelRefused):
            raise
        raise ModelRefused(f"{manifest.version} can't score: {error}") from error


def check_folder(manifest: Manifest, folder: Path) -> None:
    """The version is made for our features and heads, and its file is unaltered.

    Raises ModelRefused.
    """
    if manifest.schema_hash != schema_hash():
        raise ModelRefused(
            f"{manifest.version} reads features {manifest.schema_hash}, "
            f"this service makes {schema_hash()}"
        )
    if manifest.heads != HEADS:
        raise ModelRefused(f"{manifest.version} has other heads")
    try:
        found = file_sha256(folder / MODEL_FILE)
    except OSError as error:
        raise ModelRefused(f"{manifest.version}: {MODEL_FILE} can't be opened") from error
    if found != manifest.sha256:
        raise ModelRefused(f"{manifest.version}: {MODEL_FILE} has another SHA-256")


def trial() -> Features:
    """Inputs of two events of a user without history."""
    items = ItemTable()
    users = user_features([FeatureState()], [UserSignals()], 0, items)
    events = event_features([EventFacts("a"), EventFacts("b")], 0, items)
    return model_inputs(users, events, np.zeros(2, np.int32), items)


def check_scores(version: str, scores: NDArray[np.float32]) -> None:
    """Scores [N, heads] are probabilities. Raises ModelRefused."""
    if scores.shape[1:] != (len(HEADS),) or not ((scores >= 0) & (scores <= 1)).all():
        raise ModelRefused(f"{version} answers something else than probabilities")


def check_parity(
    manifest: Manifest,
    model_file: str,
    answered: NDArray[np.float32],
    expected: NDArray[np.float32],
) -> None:
    """The logits [N, heads] of the golden set are those of the trained model, as near as the
    precision of the file that answered allows. Raises ModelRefused."""
    difference = largest_difference(manifest, answered, expected)
    if not difference <= PARITY[model_file]:
        raise ModelRefused(
            f"{manifest.version} answers its golden set otherwise than the trained model: logits "
            f"differ by {difference:.2e}, at most {PARITY[model_file]:.0e} may be"
        )
