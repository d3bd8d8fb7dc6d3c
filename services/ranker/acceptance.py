"""What a model must be and do before it may serve, whichever backend runs it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.ranker.backend import ModelRefused
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
from services.ranker.manifest import MODEL_FILE, Manifest, file_sha256


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


def check_trial(version: str, scores: NDArray[np.float32]) -> None:
    """The scores of `trial` are probabilities. Raises ModelRefused."""
    if scores.shape != (2, len(HEADS)) or not ((scores >= 0) & (scores <= 1)).all():
        raise ModelRefused(f"{version} answers something else than probabilities")
