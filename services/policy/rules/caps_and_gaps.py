"""Rule 6: no more sends than the caps allow, and time between two. Critical types pass.

Caps count the last 24 hours, a sliding window, so that no midnight doubles them. Invariant 5.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from services.policy.batch import Batch, Caps, Send
from services.policy.channel_bits import CHANNELS, bit
from services.policy.experiments import Membership
from services.policy.rules.removal import Cause, Removal

WINDOW = timedelta(hours=24)


def caps_and_gaps(batch: Batch) -> Removal:
    """Removes all options of users at their cap or within the gap, else channels at theirs."""
    removal = Removal(batch)
    now = batch.around.now
    for index, user in enumerate(batch.users):
        caps = caps_of(user.membership, batch.around.caps)
        sends = recent(user.fatigue.sends, now)
        if cause := _overall(caps, sends, now):
            removal.slot(index, cause)
            continue
        for channel in CHANNELS:
            if cause := _in_channel(caps, sends, channel, now):
                removal.slot(index, cause, bit(channel))
    return removal


def caps_of(membership: Membership, caps: Caps) -> Caps:
    """The caps of a user: an experiment may set the overall one."""
    if membership.cap_per_day is None:
        return caps
    return replace(caps, per_day=membership.cap_per_day)


def recent(sends: Sequence[Send], now: datetime) -> list[Send]:
    """The sends that count at `now`, oldest first."""
    return [send for send in sends if send.time > now - WINDOW]


def remaining(caps: Caps, sends: Sequence[Send]) -> int:
    """How many sends the overall cap still allows, given those that count."""
    return max(0, caps.per_day - len(sends))


def _overall(caps: Caps, sends: Sequence[Send], now: datetime) -> Cause | None:
    if len(sends) >= caps.per_day:
        return _cap("a day", caps.per_day, sends, now)
    if sends:
        free = sends[-1].time + timedelta(seconds=caps.gap_seconds)
        if free > now:
            return Cause("GAP", f"the last send was at {sends[-1].time:%H:%M} UTC", free)
    return None


def _in_channel(caps: Caps, sends: Sequence[Send], channel: int, now: datetime) -> Cause | None:
    cap = caps.per_channel.get(channel)
    in_channel = [send for send in sends if send.channel == channel]
    if cap is None or len(in_channel) < cap:
        return None
    return _cap("a day in the channel", cap, in_channel, now)


def _cap(what: str, cap: int, sends: Sequence[Send], now: datetime) -> Cause:
    """The window lets the next one through when the oldest of the last `cap` sends leaves it."""
    free = sends[len(sends) - cap].time + WINDOW if cap else now + WINDOW
    return Cause("CAP", f"{len(sends)} sends within 24 h; the cap is {cap} {what}", free)
