"""Scores of an exported model for rows of a log, as the service would give them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from services.ranker.acceptance import accept
from services.ranker.backend import MOST_USERS, ModelRefused
from services.ranker.features.items import Contents
from services.ranker.features.vocabulary import HEADS
from services.ranker.inprocess import InProcessBackend
from services.ranker.manifest import Manifest, file_sha256
from services.ranker.training.log import Examples, LogError
from services.ranker.training.split import split


def judged_rows(
    manifests: Sequence[Manifest], logs: Sequence[Path], examples: Examples
) -> tuple[str, NDArray[np.int64]]:
    """What models are judged on, and its name: the validation part ("held-out") when one of them
    learned from these logs, else all rows ("all").

    Raises LogError when it learned from some of them only, since no row of those is sure to be new.
    """
    given = {file_sha256(path): path for path in logs}
    for manifest in manifests:
        known = set(manifest.log["files"].values())
        learned = [path.name for digest, path in given.items() if digest in known]
        if learned and known != set(given):
            raise LogError(
                f"{manifest.version} was trained on {', '.join(learned)}, but not on just the logs "
                "given: give the same ones to judge it on its held-out rows, or only new ones"
            )
        if learned:
            return "held-out", split(examples).validation
    return "all", np.arange(len(examples))


def score(
    manifest: Manifest,
    folder: Path,
    examples: Examples,
    contents: Contents,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Scores [n, heads] of all rows. Raises ModelRefused for a model that can't serve."""
    return asyncio.run(_score(manifest, folder, examples, contents, progress))


async def _score(
    manifest: Manifest,
    folder: Path,
    examples: Examples,
    contents: Contents,
    progress: Progress | None,
) -> NDArray[np.float64]:
    backend = InProcessBackend(intra_op_threads=1, parallel_runs=1)
    found = np.zeros((len(examples), len(HEADS)))
    task = progress.add_task(manifest.version, total=len(examples)) if progress else None
    try:
        await accept(backend, manifest, folder)
        for start in range(0, len(examples), MOST_USERS):
            index = np.arange(start, min(start + MOST_USERS, len(examples)))
            inputs = examples.inputs(index, contents)
            found[index] = await backend.score(manifest.version, inputs)
            if progress and task is not None:
                progress.advance(task, len(index))
    finally:
        await backend.close()
    if not np.isfinite(found).all():
        raise ModelRefused(f"{manifest.version} answers something else than probabilities")
    return found
