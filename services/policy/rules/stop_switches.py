"""Rule 1: nothing goes that an operator has paused, critical or not."""

from datetime import timedelta

from services.policy.batch import Batch
from services.policy.channel_bits import CHANNELS, bit
from services.policy.rules.removal import Cause, Removal
from services.policy.stop_switches import StopSwitch


def stop_switches(batch: Batch) -> Removal:
    """Removes the options that a closed switch covers. A switch names no end: try again later."""
    removal = Removal(batch)
    switches = batch.around.switches
    if not switches.closed:
        return removal
    retry = batch.around.now + timedelta(seconds=batch.around.paused_retry_seconds)
    stopped: dict[tuple[str, str], dict[StopSwitch, int]] = {}
    for index, event in enumerate(batch.events):
        key = (event.event_type.name, event.campaign_id)
        if key not in stopped:
            found: dict[StopSwitch, int] = {}
            for channel in CHANNELS:
                if switch := switches.stopping(channel, *key):
                    found[switch] = found.get(switch, 0) | bit(channel)
            stopped[key] = found
        for switch, channels in stopped[key].items():
            detail = f"{switch.scope} {switch.value}".strip() + " is paused"
            removal.event(index, Cause("PAUSED", detail, retry), channels)
    return removal
