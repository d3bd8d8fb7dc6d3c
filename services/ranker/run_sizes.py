"""How large runs of the model are: what padded buckets are chosen by (`deploy.triton.traffic`)."""

from bisect import bisect_left

from services.ranker.features import Features
from services.ranker.features.schema import SEQUENCES
from services.runtime import metrics

USERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
EVENTS = (
    1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 448, 512, 640, 1024, 2048,
)  # fmt: skip
STEPS = (8, 16, 24, 32, 48, 64)
"""Sizes are counted rounded up to these."""
NAME = "heliograph_ranker_runs"


class RunSizes:
    """Counts runs by their size."""

    def __init__(self) -> None:
        self._runs = metrics.counter(
            "ranker", "runs", "", "Runs of the model, by size.", ("users", "events", "steps")
        )

    def count(self, inputs: Features) -> None:
        """One run with these inputs of the model."""
        self._runs.labels(
            users=_up(USERS, len(inputs["segment"])),
            events=_up(EVENTS, len(inputs["user_row"])),
            steps=_up(STEPS, inputs[f"{SEQUENCES[0]}_kinds"].shape[1]),
        ).inc()


def _up(sizes: tuple[int, ...], size: int) -> int:
    return sizes[bisect_left(sizes, size)]
