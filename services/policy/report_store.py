"""Engagements and sessions as stored, and what they change in their users' rows."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from services.policy import hour_profile
from services.policy.engagements import Decided, Engagement, Session, UserChange
from services.policy.segments import ActiveDays
from services.runtime.database import UnitOfWork, load_queries
from services.runtime.partitions import ensure_day_partitions

_queries = load_queries(Path(__file__).with_name("reports.sql"))


async def find_decisions(work: UnitOfWork, keys: Iterable[tuple[date, str]]) -> dict[str, Decided]:
    """Decisions by (day, id); those that don't exist are missing."""
    known = set(keys)
    if not known:
        return {}
    asked = {
        "days": sorted({day for day, _ in known}),
        "decision_ids": sorted({decision_id for _, decision_id in known}),
    }
    rows = await work.rows(_queries.find_decisions, asked)
    return {
        row.decision_id: Decided(**{**row._mapping, "item_ids": tuple(row.item_ids)})
        for row in rows
    }


async def insert_engagements(
    work: UnitOfWork, found: Sequence[tuple[Engagement, Decided]]
) -> set[str]:
    """Store engagements, each id once; answers the ids that are new."""
    if not found:
        return set()
    await ensure_day_partitions(work, "engagements", {decided.day for _, decided in found})
    columns = {
        "days": [decided.day for _, decided in found],
        "engagement_ids": [engagement.engagement_id for engagement, _ in found],
        "decision_ids": [engagement.decision_id for engagement, _ in found],
        "user_ids": [engagement.user_id for engagement, _ in found],
        "kinds": [int(engagement.kind) for engagement, _ in found],
        "engage_times": [engagement.engage_time for engagement, _ in found],
    }
    rows = await work.rows(_queries.insert_engagements, columns)
    return {row.engagement_id for row in rows}


async def insert_sessions(work: UnitOfWork, sessions: Sequence[Session]) -> set[tuple[str, str]]:
    """Store sessions, each once; answers (user, session id) of those that are new."""
    if not sessions:
        return set()
    days = [session.start_time.astimezone(UTC).date() for session in sessions]
    await ensure_day_partitions(work, "sessions", set(days))
    columns = {
        "days": days,
        "user_ids": [session.user_id for session in sessions],
        "session_ids": [session.session_id for session in sessions],
        "start_times": [session.start_time for session in sessions],
        "durations": [session.duration for session in sessions],
        "app_deleted": [session.app_deleted for session in sessions],
    }
    rows = await work.rows(_queries.insert_sessions, columns)
    return {(row.user_id, row.session_id) for row in rows}


async def known_users(work: UnitOfWork, user_ids: Iterable[str]) -> set[str]:
    """Those of the users that are recipients; their rows are locked, in the order of user_id."""
    rows = await work.rows(_queries.lock_activity, {"user_ids": sorted(set(user_ids))})
    return {row.user_id for row in rows}


async def apply_changes(work: UnitOfWork, changes: Mapping[str, UserChange]) -> None:
    """Lay reports' changes over their users' rows, which it locks first."""
    if not changes:
        return
    asked = {"user_ids": sorted(changes)}
    rows = await work.rows(_queries.lock_activity, asked)
    active = [row for row in rows if changes[row.user_id].active_times]
    if active:
        stored = [
            _with_activity(
                ActiveDays.from_signed(row.activity_day or date.min, row.activity),
                bytes(row.hour_counts),
                row.time_zone,
                changes[row.user_id].active_times,
            )
            for row in active
        ]
        columns = {
            "user_ids": [row.user_id for row in active],
            "activities": [days.signed() for days, _ in stored],
            "activity_days": [days.last_day for days, _ in stored],
            "hour_counts": [counts for _, counts in stored],
        }
        await work.execute(_queries.store_activity, columns)
    await _end_opt_ins(work, changes)


async def _end_opt_ins(work: UnitOfWork, changes: Mapping[str, UserChange]) -> None:
    disabled = {user: change.disabled for user, change in changes.items() if change.disabled}
    if disabled:
        columns = {"user_ids": list(disabled), "disabled": list(disabled.values())}
        await work.execute(_queries.end_opt_ins, columns)
    pairs = [
        (user, topic) for user, change in changes.items() for topic in change.unsubscribed_topics
    ]
    if pairs:
        pair_columns = {"user_ids": [one[0] for one in pairs], "topics": [one[1] for one in pairs]}
        await work.execute(_queries.unsubscribe, pair_columns)


def _with_activity(
    days: ActiveDays, counts: bytes, time_zone: str, times: Sequence[datetime]
) -> tuple[ActiveDays, bytes]:
    for time in times:
        days = days.marked(time.astimezone(UTC).date())
    hours = [hour_profile.hour_of_week(time, time_zone) for time in times]
    return days, hour_profile.counted(hour_profile.read_counts(counts), hours).tobytes()
