"""The hard rules, in their order. Each looks at the whole batch; the first to remove an option
stands in its explanation."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.policy.batch import Batch, Ints
from services.policy.rules.caps_and_gaps import caps_and_gaps
from services.policy.rules.expiry_and_duplicates import expiry_and_duplicates
from services.policy.rules.opt_out_and_reachability import opt_out_and_reachability
from services.policy.rules.preferences import preferences
from services.policy.rules.quiet_hours import quiet_hours
from services.policy.rules.removal import KEPT, Cause, Removal
from services.policy.rules.stop_switches import stop_switches


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the table. `critical`: it binds critical types too."""

    name: str
    remove: Callable[[Batch], Removal]
    critical: bool


RULES = (
    Rule("stop_switches", stop_switches, critical=True),
    Rule("opt_out_and_reachability", opt_out_and_reachability, critical=True),
    Rule("expiry_and_duplicates", expiry_and_duplicates, critical=True),
    Rule("preferences", preferences, critical=False),
    Rule("quiet_hours", quiet_hours, critical=False),
    Rule("caps_and_gaps", caps_and_gaps, critical=False),
)


@dataclass(frozen=True, slots=True)
class Ruled:
    """What the rules left of a batch's options."""

    removed_by: NDArray[np.int8]
    """Index in RULES of the rule that removed each option; KEPT when it was left."""
    cause: Ints
    """Index in `causes` for each removed option."""
    causes: list[Cause]
    removed_counts: NDArray[np.int64]
    """[slots, rules]"""

    def cause_of(self, option: int) -> Cause:
        """Why a removed option was removed."""
        return self.causes[int(self.cause[option])]


def apply_rules(batch: Batch) -> Ruled:
    """Run all rules over the batch."""
    removed_by = np.full(batch.size, KEPT, dtype=np.int8)
    cause = np.full(batch.size, KEPT, dtype=np.int32)
    counts = np.zeros((len(batch.slots), len(RULES)), dtype=np.int64)
    causes: list[Cause] = []
    for number, rule in enumerate(RULES):
        removal = rule.remove(batch)
        found = removal.by_option()
        if found is None:
            continue
        hit = (found != KEPT) & (removed_by == KEPT)
        if not rule.critical:
            hit &= ~batch.critical
        removed_by[hit] = number
        cause[hit] = found[hit] + len(causes)
        causes.extend(removal.causes)
        counts[:, number] = np.bincount(batch.slot[hit], minlength=len(batch.slots))
    return Ruled(removed_by, cause, causes, counts)
