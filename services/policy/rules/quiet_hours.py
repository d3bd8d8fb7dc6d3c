"""Rule 5: nothing in the user's quiet hours, by the clock on the user's wall.

Critical types pass.
"""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from services.policy.batch import Batch
from services.policy.preferences import QuietHours
from services.policy.rules.removal import Cause, Removal


def quiet_hours(batch: Batch) -> Removal:
    """Removes everything from users in whose time zone it is quiet now."""
    removal = Removal(batch)
    now = batch.around.now
    known: dict[tuple[str, QuietHours], Cause | None] = {}
    for index, user in enumerate(batch.users):
        key = (user.time_zone, user.quiet_hours or batch.around.quiet_hours)
        if key not in known:
            known[key] = _quiet(now, *key)
        if cause := known[key]:
            removal.slot(index, cause)
    return removal


def quiet_until(now: datetime, time_zone: str, hours: QuietHours) -> datetime | None:
    """When the quiet hours that `now` (aware) lies in end, in UTC; None when it isn't quiet.

    Local times are the wall clock's: an end that a change of the clocks skips is moved on by the
    change; where it comes twice, the quiet hours that began before end the first time.
    """
    zone = ZoneInfo(time_zone or "UTC")
    local = now.astimezone(zone)
    if not hours.covers(local.hour * 60 + local.minute):
        return None
    end = time(hours.end_minute // 60, hours.end_minute % 60)
    for days in (0, 1, 2):
        for fold in (0, 1):
            day = (local + timedelta(days=days)).date()
            moment = datetime.combine(day, end, zone).replace(fold=fold).astimezone(UTC)
            if moment > now:
                return moment
    raise AssertionError("quiet hours end within two days")


def _quiet(now: datetime, time_zone: str, hours: QuietHours) -> Cause | None:
    until = quiet_until(now, time_zone, hours)
    if until is None:
        return None
    local = until.astimezone(ZoneInfo(time_zone or "UTC"))
    return Cause("QUIET_HOURS", f"quiet until {local:%H:%M} in {time_zone or 'UTC'}", until)
