"""The text model, fetched once on a machine that has never had it."""

from pathlib import Path

import pytest

from services.candidate.text import TextEncoder, weights
from services.runtime.settings import RuntimeSettings


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The folder with the model's files."""
    folder = weights.model_folder(RuntimeSettings().model_dir)
    weights.fetch(folder)
    return folder


@pytest.fixture(scope="session")
def encoder(model_folder: Path) -> TextEncoder:
    """The model on one core."""
    return TextEncoder(model_folder, threads=1)
