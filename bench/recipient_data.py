"""Recipients straight into policy's tables by COPY, and how full the pools of users are, for
benches."""

from datetime import UTC, datetime, timedelta

import numpy as np

from bench.catalogue_data import CREATED, Connection, user_id
from services.policy.channel_bits import CHANNELS

TIME_ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Asia/Tokyo",
    "America/Sao_Paulo",
    "Asia/Kolkata",
)
SENT = 0.4
"""Share of recipients with sends in the last day, one to three each."""
MUTED = 0.05
"""Share of recipients with a muted topic."""
WAITING = 0.5
"""Share of users with events in their pools."""


def copy_recipients(connection: Connection, count: int, seed: int = 3) -> None:
    """The first users as recipients: of several time zones, most opted in to most channels, some
    with a muted topic or sends in the last day."""
    random = np.random.default_rng(seed)
    opt_ins = random.integers(0, 8, count).tolist()
    zones = random.integers(0, len(TIME_ZONES), count).tolist()
    muted = (random.random(count) < MUTED).tolist()
    sends = np.where(random.random(count) < SENT, random.integers(1, 4, count), 0).tolist()
    query = (
        "COPY policy.recipients (user_id, time_zone, locale, create_time, update_time, opt_ins, "
        "reachable, muted_topics, activity, activity_day) FROM STDIN"
    )
    now = datetime.now(UTC)
    with connection.cursor().copy(query) as copy:
        for number in range(count):
            zone, topics = TIME_ZONES[zones[number]], ["bench"] if muted[number] else []
            row = (user_id(number), zone, "en", CREATED, now, opt_ins[number], 7, topics, 5)
            copy.write_row((*row, now.date()))
    query = "COPY policy.fatigue (user_id, send_times, send_channels, send_deliveries) FROM STDIN"
    with connection.cursor().copy(query) as copy:
        for number in range(count):
            sent = range(sends[number])
            times = [now - timedelta(hours=20 - 7 * place, seconds=number % 7919) for place in sent]
            channels = [CHANNELS[(number + place) % len(CHANNELS)] for place in sent]
            copy.write_row((user_id(number), times, channels, [f"d{number}-{p}" for p in sent]))
    connection.execute("ANALYZE policy.recipients, policy.fatigue")


def fill_pools(connection: Connection, seed: int = 4) -> None:
    """Say of users, after COPY, that up to five events wait in their pools."""
    connection.execute("SELECT setseed(%s)", (1 / seed,))
    connection.execute(
        "UPDATE candidate.users SET pool_bound = 1 + floor(random() * 5) WHERE random() < %s",
        (WAITING,),
    )
    connection.execute("VACUUM ANALYZE candidate.users")
