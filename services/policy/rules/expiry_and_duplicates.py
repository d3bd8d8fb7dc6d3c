"""Rule 3: no event after its expiry, and none twice, critical or not. Invariant 3."""

import numpy as np

from services.policy.batch import Batch
from services.policy.rules.removal import Cause, Removal

EXPIRED = Cause("EXPIRED", "past its expiry")
DUPLICATE = Cause("DUPLICATE", "decided for good before")


def expiry_and_duplicates(batch: Batch) -> Removal:
    """Removes events that have expired or that were decided before."""
    removal = Removal(batch)
    now = batch.around.now.timestamp()
    expiries = np.fromiter((event.expire_time for event in batch.events), np.float64)
    for expired in np.flatnonzero(expiries <= now):
        removal.event(int(expired), EXPIRED)
    for slot, user in enumerate(batch.users):
        if not user.decided_events:
            continue
        first = int(batch.event_starts[slot])
        for offset, event in enumerate(batch.slots[slot].events):
            if event.event_id in user.decided_events:
                removal.event(first + offset, DUPLICATE)
    return removal
