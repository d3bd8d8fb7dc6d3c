"""A user's own preferences, and how a change is laid over them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

MOST_MUTED_TOPICS = 256

Key = TypeVar("Key")


class TooManyTopics(ValueError):
    """A user would have more muted topics than are kept."""


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Minutes of the local day in which nothing that isn't critical is sent: [start, end).

    An end before the start runs over midnight; equal means none.
    """

    start_minute: int
    end_minute: int

    def covers(self, minute: int) -> bool:
        """Whether the local `minute` of the day, 0–1,439, is a quiet one."""
        if self.start_minute <= self.end_minute:
            return self.start_minute <= minute < self.end_minute
        return minute >= self.start_minute or minute < self.end_minute


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a user has turned off. `quiet_hours` None: the deployment's default."""

    muted_topics: frozenset[str] = frozenset()
    muted_channels: frozenset[int] = frozenset()
    quiet_hours: QuietHours | None = None

    def mutes(self, topic: str, channel: int) -> bool:
        """Whether the user has turned the topic or the channel off."""
        return topic in self.muted_topics or channel in self.muted_channels


@dataclass(frozen=True, slots=True)
class PreferenceChange:
    """Topics and channels turned off (True) or on again (False); what isn't named stays."""

    topics: Mapping[str, bool]
    channels: Mapping[int, bool]
    quiet_hours: QuietHours | None = None


def merged(current: Preferences, change: PreferenceChange) -> Preferences:
    """`current` with the change laid over it. Raises TooManyTopics past 256 muted topics."""
    topics = _laid_over(current.muted_topics, change.topics)
    if len(topics) > MOST_MUTED_TOPICS:
        raise TooManyTopics(f"{len(topics)} muted topics; at most {MOST_MUTED_TOPICS} are kept")
    return replace(
        current,
        muted_topics=topics,
        muted_channels=_laid_over(current.muted_channels, change.channels),
        quiet_hours=change.quiet_hours or current.quiet_hours,
    )


def _laid_over(current: frozenset[Key], change: Mapping[Key, bool]) -> frozenset[Key]:
    on = {key for key, muted in change.items() if not muted}
    off = {key for key, muted in change.items() if muted}
    return (current - on) | off
