"""The seam behind which models run."""

from datetime import timedelta
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.schema import Features
from services.ranker.manifest import Manifest

MOST_USERS = 128
MOST_EVENTS = 2048
"""A run of the model takes users and events up to these numbers: more would only need more
memory."""


class ModelRefused(Exception):
    """A model that is incomplete, altered, made for other features, or doesn't answer."""


class Backend(Protocol):
    """Runs models by version. Never blocks the event loop."""

    async def load(self, manifest: Manifest, folder: Path) -> str:
        """Make a version ready; one that is stays as it is. Gives the name of the file that runs.

        Raises ModelRefused, and Unavailable where models run elsewhere and can't be reached.
        """

    async def score(self, version: str, inputs: Features) -> NDArray[np.float32]:
        """Scores [N, heads] of a loaded version for `features.model_inputs`.

        Raises KeyError for a version that isn't loaded, BadInputs for what `check_inputs` refuses,
        and Unavailable as `load`.
        """

    async def logits(self, version: str, inputs: Features) -> NDArray[np.float32]:
        """What the scores [N, heads] of trained heads are made from. Raises as `score`."""

    async def unload(self, version: str, idle: timedelta = timedelta(0)) -> None:
        """Free what a version holds; nothing happens when it isn't loaded.

        Where processes share it, it stays for the others unless none has had it run for `idle`.
        """

    async def close(self) -> None:
        """Free what the models hold, once no run goes on."""
