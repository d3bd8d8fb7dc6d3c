"""When a digest is ready: at its hour, after its longest wait, or as soon as it is large enough."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DigestRules:
    """When an event type's digests are ready; at least one of hour and longest wait is given."""

    hour: int | None = None
    """Local hour of the user, 0–23."""
    maximum_wait: timedelta | None = None
    """From when its first event was accepted."""
    minimum_count: int = 0
    """Events that make it ready at once; 0: no number does."""


def ready_time(rules: DigestRules, now: datetime, zone: ZoneInfo) -> datetime:
    """When a digest that begins now is ready if it stays small."""
    times = []
    if rules.hour is not None:
        times.append(next_hour(now, rules.hour, zone))
    if rules.maximum_wait is not None:
        times.append(now + rules.maximum_wait)
    return min(times)


def next_hour(now: datetime, hour: int, zone: ZoneInfo) -> datetime:
    """The first time after `now`, in UTC, at which the clocks of the zone show this full hour. An
    hour that is left out when the clocks go forward counts as the moment when they do."""
    day = now.astimezone(zone).date()
    while True:
        local = datetime.combine(day, time(hour), zone)
        moment = local.astimezone(UTC)
        if moment > now:
            return moment
        day += DAY


def zone_of(name: str) -> ZoneInfo:
    """The time zone of an IANA name; UTC for none and for what isn't one."""
    try:
        return ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")
