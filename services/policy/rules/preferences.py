"""Rule 4: what the user has turned off or put to sleep. Critical types pass."""

from services.policy.batch import Batch
from services.policy.rules.removal import Cause, Removal

MUTED_CHANNEL = Cause("MUTED", "the user has turned the channel off")


def preferences(batch: Batch) -> Removal:
    """Removes muted channels and topics, and everything while the user is snoozed."""
    removal = Removal(batch)
    now = batch.around.now
    for index, user in enumerate(batch.users):
        if user.muted_channels:
            removal.slot(index, MUTED_CHANNEL, user.muted_channels)
        if user.muted_topics:
            _muted_topics(batch, index, removal)
        if user.snooze_until is not None and user.snooze_until > now:
            until = user.snooze_until
            cause = Cause("SNOOZED", f"snoozed until {until:%Y-%m-%d %H:%M} UTC", until)
            removal.slot(index, cause)
    return removal


def _muted_topics(batch: Batch, slot: int, removal: Removal) -> None:
    topics = batch.users[slot].muted_topics
    for event in range(int(batch.event_starts[slot]), int(batch.event_starts[slot + 1])):
        topic = batch.events[event].event_type.topic
        if topic in topics:
            removal.event(event, Cause("MUTED", f"the user has turned the topic {topic} off"))
