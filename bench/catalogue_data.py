"""Users, items and interactions straight into candidate's tables, by COPY, for benches."""

from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
from heliograph.type.v1alpha1 import event_pb2

Connection = psycopg.Connection[tuple[object, ...]]
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def user_id(number: int) -> str:
    """Name of a user."""
    return f"user-{number:08}"


def item_id(number: int) -> str:
    """Name of an item."""
    return f"item-{number:06}"


def copy_users(connection: Connection, count: int) -> None:
    """Users without attributes."""
    query = "COPY candidate.users (user_id, body, create_time) FROM STDIN (FORMAT binary)"
    with connection.cursor().copy(query) as copy:
        copy.set_types(["text", "bytea", "timestamptz"])
        for number in range(count):
            name = user_id(number)
            copy.write_row((name, event_pb2.User(user_id=name).SerializeToString(), CREATED))
    connection.execute("ANALYZE candidate.users")


def copy_items(connection: Connection, count: int) -> None:
    """Items, the later ones created in the last two weeks."""
    query = "COPY candidate.items (item_id, body, create_time, deleted) FROM STDIN (FORMAT binary)"
    now = datetime.now(UTC)
    with connection.cursor().copy(query) as copy:
        copy.set_types(["text", "bytea", "timestamptz", "bool"])
        for number in range(count):
            item = event_pb2.Item(item_id=item_id(number), title=f"Item {number}")
            created = now - timedelta(days=140 * (1 - number / count))
            copy.write_row((item.item_id, item.SerializeToString(), created, False))
    connection.execute("ANALYZE candidate.items")


def copy_interactions(
    connection: Connection, users: int, items: int, per_user: float, seed: int = 1
) -> int:
    """Interactions, log-normal by user and by Zipf's law over items; returns how many."""
    random = np.random.default_rng(seed)
    counts = random.lognormal(np.log(per_user) - 0.5, 1.0, users).astype(np.int64)
    popularity = 1.0 / np.arange(1, items + 1)
    who = np.repeat(np.arange(users), counts)
    what = random.permutation(items)[
        np.searchsorted(np.cumsum(popularity / popularity.sum()), random.random(len(who))) % items
    ]
    seconds = random.integers(1, 60 * 86_400, len(who))
    query = (
        "COPY candidate.interactions (user_id, item_id, interact_time, weight, kind) "
        "FROM STDIN (FORMAT binary)"
    )
    keys = np.unique(np.stack([who, what, seconds], axis=1), axis=0)
    with connection.cursor().copy(query) as copy:
        copy.set_types(["text", "text", "timestamptz", "float4", "text"])
        for user, item, second in keys.tolist():
            moment = CREATED + timedelta(seconds=second)
            copy.write_row((user_id(user), item_id(item), moment, 1.0, "open"))
    connection.execute("ANALYZE candidate.interactions")
    return len(keys)
