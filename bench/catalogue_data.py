"""Users, items and interactions straight into candidate's tables, by COPY, for benches."""

from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
from heliograph.type.v1alpha1 import event_pb2

Connection = psycopg.Connection[tuple[object, ...]]
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
COUNTRIES = ("de", "fr", "it", "pl", "se")
CREATORS = 5_000
DECIDE_TYPES = """
INSERT INTO candidate.attribute_types (owner, name, type, set_time) VALUES
    ('user', 'age', 'int', now()), ('user', 'country', 'string', now()),
    ('user', 'interests', 'list(string)', now())
"""


def user_id(number: int) -> str:
    """Name of a user."""
    return f"user-{number:08}"


def item_id(number: int) -> str:
    """Name of an item."""
    return f"item-{number:06}"


def user_body(name: str, age: int | None) -> bytes:
    """The stored form of a user; with an age also a country and two interests."""
    user = event_pb2.User(user_id=name)
    if age is not None:
        user.attributes["age"].int_value = age
        user.attributes["country"].string_value = COUNTRIES[age % len(COUNTRIES)]
        interests = [f"topic-{age % 7}", f"topic-{age % 11}"]
        user.attributes["interests"].list_value.values.extend(interests)
    return user.SerializeToString(deterministic=True)


def copy_users(connection: Connection, count: int, *, attributes: bool = False) -> None:
    """Users, without attributes or with three."""
    query = "COPY candidate.users (user_id, body, create_time) FROM STDIN (FORMAT binary)"
    with connection.cursor().copy(query) as copy:
        copy.set_types(["text", "bytea", "timestamptz"])
        for number in range(count):
            name = user_id(number)
            age = 16 + number * 7919 % 60 if attributes else None
            copy.write_row((name, user_body(name, age), CREATED))
    if attributes:
        connection.execute(DECIDE_TYPES)
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


def copy_relations(connection: Connection, users: int, ties: int, seed: int = 2) -> int:
    """Relations: each user follows about half as many creators as `ties` says, users or not, and
    has as many friends nearby; returns how many are stored."""
    random = np.random.default_rng(seed)
    half = ties // 2
    who = np.repeat(np.arange(users), half)
    creators = np.minimum(random.zipf(1.5, len(who)), CREATORS) - 1
    follows = np.unique(np.stack([who, creators], axis=1), axis=0)
    near = np.repeat(np.arange(users), half - half // 2)
    friends = np.stack([near, near + random.integers(1, 500, len(near))], axis=1)
    friends = np.unique(friends[friends[:, 1] < users], axis=0)
    query = (
        "COPY candidate.relations (user_id, kind, target_id, strength, create_time) "
        "FROM STDIN (FORMAT binary)"
    )
    with connection.cursor().copy(query) as copy:
        copy.set_types(["text", "int2", "text", "float4", "timestamptz"])
        for user, creator in follows.tolist():
            name = user_id(creator) if creator % 2 and creator != user else f"creator-x{creator}"
            copy.write_row((user_id(user), 1, name, 0.5, CREATED))
        for user, friend in friends.tolist():
            copy.write_row((user_id(user), 2, user_id(friend), 0.5, CREATED))
    connection.execute("ANALYZE candidate.relations")
    return len(follows) + len(friends)
