"""Sets of channels as bits: 1 push, 2 e-mail, 4 in-app. Channels are the proto's numbers, 1–3."""

from collections.abc import Iterable

PUSH, EMAIL, IN_APP = 1, 2, 3
CHANNELS = (PUSH, EMAIL, IN_APP)


def bit(channel: int) -> int:
    """The bit of one channel."""
    return 1 << (channel - 1)


def bits(channels: Iterable[int]) -> int:
    """The set of these channels."""
    found = 0
    for channel in channels:
        found |= bit(channel)
    return found


def channels_in(stored: int) -> list[int]:
    """The channels of a set, in their order."""
    return [channel for channel in CHANNELS if stored & bit(channel)]
