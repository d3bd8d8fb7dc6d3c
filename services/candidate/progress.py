"""How far a generation run is, and what it has made."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

from prometheus_client import Histogram

from services.candidate.sources import SourceCount
from services.candidate.sources.availability import Availability, Yields
from services.runtime import metrics

STAGES = ("read", "propose", "publish", "mark", "commit")


@dataclass(slots=True)
class Made:
    """What one source has made."""

    proposed: int = 0
    accepted: int = 0
    failed_users: int = 0
    """Users for whom it failed: a later run asks it again."""

    @property
    def dropped(self) -> int:
        """Proposed, but no new event: another source's, known already, or over the pool's size."""
        return self.proposed - self.accepted


@dataclass(frozen=True, slots=True)
class Saving:
    """What skipping a source saved and cost."""

    asked: int
    skipped: int
    lost: float
    """Expected events lost."""
    lost_error: float
    """Standard error of it."""
    seconds: float
    """How long asking took."""
    saved_seconds: float
    """How much longer it is expected to have taken without skipping."""


class Report(Protocol):
    """How far a run is, whoever counts it."""

    @property
    def users(self) -> int:
        """Users finished."""

    @property
    def total(self) -> int:
        """Users in all."""

    @property
    def done(self) -> bool:
        """The run is complete."""

    @property
    def made(self) -> Mapping[str, Made]:
        """By source."""

    @property
    def stages(self) -> Mapping[str, float]:
        """Seconds by stage."""

    def savings(self) -> Mapping[str, Saving]:
        """By source."""


@dataclass(slots=True)
class Progress:
    """How far a run is."""

    total: int
    names: Sequence[str]
    availability: Availability
    users: int = 0
    made: dict[str, Made] = field(default_factory=dict)
    yields: Yields = field(init=False)
    stages: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    """Seconds by stage, summed over chunks, of which several are under way at once."""
    done: bool = False

    def __post_init__(self) -> None:
        self.made = {name: Made() for name in self.names}
        self.yields = Yields.none(len(self.names))

    def count(self, users: int, counts: Mapping[str, SourceCount], yields: Yields) -> None:
        """Count a chunk of users: what the sources proposed, and what became of it."""
        self.users += users
        self.yields.add(yields)
        for name, count in counts.items():
            self.made[name].proposed += count.proposed
        for name, accepted in zip(self.names, self.yields.accepted.sum(axis=0), strict=True):
            self.made[name].accepted = int(accepted)

    def savings(self) -> dict[str, Saving]:
        """By source."""
        lost, error = self.availability.lost(self.yields)
        saved = self.availability.saved_seconds(self.yields)
        totals = self.yields.asked, self.yields.skipped, self.yields.seconds
        asked, skipped, seconds = (table.sum(axis=0) for table in totals)
        return {
            name: Saving(
                int(asked[n]),
                int(skipped[n]),
                float(lost[n]),
                float(error[n]),
                float(seconds[n]),
                float(saved[n]),
            )
            for n, name in enumerate(self.names)
        }

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time of what is done inside for a stage, here and in the metrics."""
        began = perf_counter()
        try:
            yield
        finally:
            seconds = perf_counter() - began
            self.stages[stage] += seconds
            _stage_seconds().labels(stage).observe(seconds)


def _stage_seconds() -> Histogram:
    return metrics.histogram(
        "candidate",
        "generation_stage",
        "seconds",
        "Time that a stage of the generation takes for a chunk of users.",
        ["stage"],
    )
