"""Recipients as stored: batches of rows, their endpoints, preferences and state."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from services.policy.addresses import AddressBook
from services.policy.channel_bits import bits, channels_in
from services.policy.contexts import RecipientState
from services.policy.preferences import Preferences, QuietHours
from services.policy.segments import ActiveDays
from services.runtime.database import UnitOfWork, load_queries

_queries = load_queries(Path(__file__).with_name("recipients.sql"))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a channel reaches a user."""

    channel: int
    address: str
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Recipient:
    """A user as a receiver, as given. `create_time` None: when first stored."""

    user_id: str
    time_zone: str
    locale: str
    opt_ins: tuple[int, ...]
    endpoints: tuple[Endpoint, ...]
    create_time: datetime | None
    slot_hours: tuple[int, ...]

    def reachable(self) -> int:
        """Channels, as bits, with an endpoint that works."""
        return bits(one.channel for one in self.endpoints if not one.unreachable)


async def upsert(
    work: UnitOfWork, recipients: Sequence[Recipient], addresses: AddressBook, now: datetime
) -> None:
    """Store recipients, each user once, with their endpoints and fatigue rows."""
    users = [recipient.user_id for recipient in recipients]
    columns = {
        "now": now,
        "user_ids": users,
        "time_zones": [recipient.time_zone for recipient in recipients],
        "locales": [recipient.locale for recipient in recipients],
        "create_times": [recipient.create_time for recipient in recipients],
        "opt_ins": [bits(recipient.opt_ins) for recipient in recipients],
        "reachable": [recipient.reachable() for recipient in recipients],
        "slot_hours": [_hour_bits(recipient.slot_hours) for recipient in recipients],
        "without_create_time": [one.user_id for one in recipients if one.create_time is None],
    }
    await work.execute(_queries.upsert_recipients, columns)
    endpoints = _endpoint_columns(recipients, addresses)
    await work.execute(_queries.delete_other_endpoints, {**endpoints, "all_user_ids": users})
    await work.execute(_queries.upsert_endpoints, endpoints)
    await work.execute(_queries.insert_fatigue, {"user_ids": users})


async def read_states(work: UnitOfWork, user_ids: Sequence[str]) -> dict[str, RecipientState]:
    """What contexts are made of, by user; unknown users are missing."""
    rows = await work.rows(_queries.read_states, {"user_ids": sorted(set(user_ids))})
    return {row.user_id: _state(row) for row in rows}


@dataclass(frozen=True, slots=True)
class StoredPreferences:
    """A user's preferences, and the topics whose e-mails they have unsubscribed from."""

    preferences: Preferences
    unsubscribed_topics: frozenset[str]


async def lock_preferences(work: UnitOfWork, user_id: str) -> StoredPreferences | None:
    """A user's preferences, locked; None for an unknown user."""
    for row in await work.rows(_queries.lock_preferences, {"user_id": user_id}):
        quiet = None
        if row.quiet_start is not None:
            quiet = QuietHours(row.quiet_start, row.quiet_end)
        muted = Preferences(
            frozenset(row.muted_topics), frozenset(channels_in(row.muted_channels)), quiet
        )
        return StoredPreferences(muted, frozenset(row.unsubscribed_topics))
    return None


async def store_preferences(
    work: UnitOfWork, user_id: str, stored: StoredPreferences, now: datetime
) -> None:
    """Write a locked user's preferences."""
    quiet = stored.preferences.quiet_hours
    columns = {
        "user_id": user_id,
        "muted_topics": sorted(stored.preferences.muted_topics),
        "muted_channels": bits(stored.preferences.muted_channels),
        "quiet_start": quiet.start_minute if quiet else None,
        "quiet_end": quiet.end_minute if quiet else None,
        "unsubscribed_topics": sorted(stored.unsubscribed_topics),
        "now": now,
    }
    await work.execute(_queries.store_preferences, columns)


async def snooze(
    work: UnitOfWork, user_id: str, until_time: datetime | None, now: datetime
) -> bool:
    """Hold a user's notifications back until a time, or no longer; whether the user is known."""
    columns = {"user_id": user_id, "until_time": until_time, "now": now}
    return bool(await work.rows(_queries.snooze, columns))


def _endpoint_columns(
    recipients: Sequence[Recipient], addresses: AddressBook
) -> dict[str, list[Any]]:
    """Endpoints as columns; an address given twice for a channel counts as last given."""
    unique = {
        (recipient.user_id, endpoint.channel, endpoint.address): endpoint.unreachable
        for recipient in recipients
        for endpoint in recipient.endpoints
    }
    return {
        "user_ids": [user for user, _, _ in unique],
        "channels": [channel for _, channel, _ in unique],
        "address_keys": [addresses.key_of(address) for _, _, address in unique],
        "sealed_addresses": [
            addresses.seal(address, user, channel) for user, channel, address in unique
        ],
        "unreachable": list(unique.values()),
    }


def _hour_bits(hours: Sequence[int]) -> int:
    return sum(1 << hour for hour in set(hours))


@lru_cache(maxsize=4096)
def _hours_in(stored: int) -> tuple[int, ...]:
    return tuple(hour for hour in range(24) if stored >> hour & 1)


def _state(row: Row[Any]) -> RecipientState:
    last_day = row.activity_day or date.min
    return RecipientState(
        user_id=row.user_id,
        time_zone=row.time_zone,
        locale=row.locale,
        create_time=row.create_time,
        active=ActiveDays.from_signed(last_day, row.activity),
        hour_counts=bytes(row.hour_counts),
        slot_hours=_hours_in(row.slot_hours),
    )
