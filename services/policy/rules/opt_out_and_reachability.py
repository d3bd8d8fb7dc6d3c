"""Rule 2: only channels the user has agreed to and can be reached through, critical or not."""

from services.policy.batch import Batch
from services.policy.channel_bits import EMAIL, bit
from services.policy.rules.removal import Cause, Removal

NOT_OPTED_IN = Cause("OPT_OUT", "not opted in to the channel")
UNREACHABLE = Cause("UNREACHABLE", "no working address for the channel")


def opt_out_and_reachability(batch: Batch) -> Removal:
    """Removes channels without opt-in or address, and e-mails of topics unsubscribed from."""
    removal = Removal(batch)
    for index, user in enumerate(batch.users):
        if user.opt_ins != 7:
            removal.slot(index, NOT_OPTED_IN, ~user.opt_ins & 7)
        if user.reachable != 7:
            removal.slot(index, UNREACHABLE, ~user.reachable & 7)
        if user.unsubscribed_topics:
            _unsubscribed(batch, index, removal)
    return removal


def _unsubscribed(batch: Batch, slot: int, removal: Removal) -> None:
    topics = batch.users[slot].unsubscribed_topics
    for event in range(int(batch.event_starts[slot]), int(batch.event_starts[slot + 1])):
        topic = batch.events[event].event_type.topic
        if topic in topics:
            cause = Cause("UNSUBSCRIBED", f"unsubscribed from e-mails about {topic}")
            removal.event(event, cause, bit(EMAIL))
