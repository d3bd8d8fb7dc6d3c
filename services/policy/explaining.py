"""Explanations of a batch's decisions: columns are made for all options at once, then cut."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.policy.arms import Arm
from services.policy.batch import Batch, Floats, Ints
from services.policy.choice import NO_SEND
from services.policy.explanation import Explanation, option_rows
from services.policy.judging import Judged
from services.policy.rules import Ruled
from services.policy.rules.removal import KEPT

_NO_SCORES = np.zeros((0, 0), np.float32)
_NOTHING_JUDGED = (None, None, None)


@dataclass(frozen=True, slots=True)
class Trace:
    """How one slot was decided, as far as its explanation needs it."""

    option: int
    """The option taken, or NO_SEND."""
    arm: Arm
    no_send_propensity: float
    judged: bool
    """Utilities were held against thresholds."""


def explanations(
    batch: Batch,
    ruled: Ruled,
    judged: Judged,
    propensity: Floats,
    heads: Sequence[int],
    traces: Sequence[Trace],
) -> list[Explanation]:
    """Of all slots of a batch; `propensity` is of each option."""
    left = ruled.removed_by == KEPT
    used = np.array([trace.judged for trace in traces], dtype=bool)
    utility = np.where(left & used[batch.slot], judged.utility, 0.0)
    below = left & (utility < judged.threshold[batch.slot, batch.column])
    slots = len(batch.slots)
    left_counts = np.bincount(batch.slot[left], minlength=slots).tolist()
    below_counts = np.bincount(batch.slot[below], minlength=slots).tolist()
    removed_counts = ruled.removed_counts.tolist()
    local, details = _local_causes(batch, ruled)
    event = batch.event - batch.event_starts[batch.slot].astype(np.int32)
    rows = option_rows(event, batch.column + 1, ruled.removed_by, local, utility, propensity)
    thresholds = judged.threshold.tolist()
    found = []
    for index, (slot, trace) in enumerate(zip(batch.slots, traces, strict=True)):
        taken_below = trace.option != NO_SEND and bool(below[trace.option])
        later = _later_counts(trace, left_counts[index], below_counts[index] - taken_below)
        scored = slot.scores is not None
        found.append(
            Explanation(
                event_ids=[event.event_id for event in slot.events],
                event_types=[event.event_type.name for event in slot.events],
                heads=list(heads) if scored else [],
                scores=slot.scores if slot.scores is not None else _NO_SCORES,
                thresholds=thresholds[index] if trace.judged else _NOTHING_JUDGED,
                no_send_propensity=trace.no_send_propensity,
                removed_counts=[*removed_counts[index], *later],
                details=details[index],
                options=rows[batch.options_of(index)],
            )
        )
    return found


def _local_causes(batch: Batch, ruled: Ruled) -> tuple[Ints, list[list[str]]]:
    """Causes numbered slot by slot: of each option, and their texts by slot."""
    local: Ints = np.full(batch.size, KEPT, dtype=np.int32)
    details: list[list[str]] = []
    for slot in range(len(batch.slots)):
        options = batch.options_of(slot)
        if not ruled.removed_counts[slot].any():
            details.append([])
            continue
        used = np.unique(ruled.cause[options])
        used = used[used != KEPT]
        numbers = np.searchsorted(used, ruled.cause[options])
        local[options] = np.where(ruled.cause[options] == KEPT, KEPT, numbers)
        details.append([ruled.causes[number].detail for number in used.tolist()])
    return local, details


def _later_counts(trace: Trace, left: int, below: int) -> tuple[int, int, int]:
    """How many of the options left were turned down by arm, threshold and channel."""
    sent = trace.option != NO_SEND
    if trace.arm is not Arm.POLICY or not trace.judged:
        return (0, 0, left - 1) if sent else (left, 0, 0)
    return (0, below, left - below - 1) if sent else (0, left, 0)
