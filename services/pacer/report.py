"""What a pass did and how long its stages took; the same goes into the metrics."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.runtime import metrics

STAGES = (
    "arrivals",
    "ready",
    "read_pool",
    "contexts",
    "rank",
    "decide",
    "settle",
    "lease_deliveries",
    "check",
    "pick",
    "deliver",
    "ack",
)
"""Stages in the order of a pass."""


@dataclass(slots=True)
class StageTotal:
    """Count and seconds of one stage. Calls that ran side by side add up."""

    count: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Report:
    """Totals of one pass."""

    slot_count: int = 0
    """Slots decided."""
    ready_count: int = 0
    """Ready events decided."""
    send_count: int = 0
    """Decisions that send."""
    delivery_count: int = 0
    """Deliveries handed to channels."""
    dropped_count: int = 0
    """Deliveries that were dropped late."""
    stages: dict[str, StageTotal] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str, count: int = 0) -> Iterator[StageTotal]:
        """Add the time of the block, and `count` things that went through, to a stage."""
        total = self.stages.setdefault(stage, StageTotal())
        started = time.perf_counter()
        try:
            yield total
        finally:
            seconds = time.perf_counter() - started
            total.count += count
            total.seconds += seconds
            STAGE_SECONDS.labels(stage).observe(seconds)


STAGE_SECONDS = metrics.histogram(
    "pacer", "stage", "seconds", "Time that one batch spent in a stage.", ["stage"]
)
SLOTS = metrics.counter("pacer", "slots", "", "Slots closed, by what became of them.", ["outcome"])
READY = metrics.counter(
    "pacer", "ready_events", "", "Ready events handled, by what became of them.", ["outcome"]
)
DELIVERIES = metrics.counter(
    "pacer",
    "deliveries",
    "",
    "Deliveries attempted, by channel, adapter and what the channel said.",
    ["channel", "adapter", "outcome"],
)
DROPPED = metrics.counter("pacer", "late_drops", "", "Deliveries dropped late, at the lease.")
HOLDS = metrics.counter(
    "pacer", "holds", "", "Batches given back because a service was down.", ["stage", "reason"]
)
LOST_LEASES = metrics.counter(
    "pacer", "lost_leases", "", "Slots that took longer than their lease and changed hands."
)
SLOT_LAG = metrics.gauge(
    "pacer", "slot_lag", "seconds", "How long the oldest slot of the last batch was due."
)
IN_HAND = metrics.gauge(
    "pacer", "in_hand", "", "Leased and not yet settled by this process, by stage.", ["stage"]
)
