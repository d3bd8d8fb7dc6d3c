"""Users with attributes of all types, as Python values, and strategies for such values."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import strategies as st

from services.candidate.expressions import (
    AttributeType,
    Columns,
    Schema,
    build_columns,
    typed_value,
)

T = AttributeType
User = Mapping[str, Any]

NOW = datetime(2026, 3, 29, 0, 30, 15, 123456, tzinfo=UTC)
SCHEMA = Schema(
    {
        "age": AttributeType.INT,
        "visits": AttributeType.INT,
        "score": AttributeType.DOUBLE,
        "spent-total": AttributeType.DOUBLE,
        "group": AttributeType.STRING,
        "city": AttributeType.STRING,
        "vip": AttributeType.BOOL,
        "trial": AttributeType.BOOL,
        "joined": AttributeType.TIMESTAMP,
        "seen": AttributeType.TIMESTAMP,
        "played": AttributeType.DURATION,
        "break": AttributeType.DURATION,
        "tags": AttributeType.STRING_LIST,
        "likes": AttributeType.STRING_LIST,
        "hours": AttributeType.NUMBER_MAP,
        "spent": AttributeType.NUMBER_MAP,
    },
    longest={"tags": 4, "likes": 4, "hours": 4, "spent": 4},
)
LOWEST, HIGHEST = -(2**63), 2**63 - 1
_LAST_TIME = datetime.max.replace(tzinfo=UTC)
LONGEST = timedelta(days=106_751)
"""The library cuts longer spans of time to 2^63 nanoseconds; here they are errors."""

TEXTS = st.one_of(
    st.sampled_from(["", "a", "b", "ab", "loyal", "new", "Aé😀", "e\u0301", "ß\n"]),
    st.text("abAB é😀\u0301.", max_size=4),
)
"""Without NUL: the library's Python side cuts texts off there, and Postgres can't store it."""
INTS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([LOWEST, LOWEST + 1, HIGHEST, HIGHEST - 1, 2**53 + 1, 2**31, 2**62]),
    st.integers(LOWEST, HIGHEST),
)
DOUBLES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e308, 5e-324, 2.0**63, -(2.0**63)]),
    st.floats(allow_nan=False, allow_infinity=False),
)
TIMES = st.one_of(
    st.sampled_from([NOW, NOW - timedelta(hours=168), datetime(1970, 1, 1, tzinfo=UTC)]),
    st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1)).map(lambda at: at.replace(tzinfo=UTC)),
    st.datetimes().map(lambda at: at.replace(tzinfo=UTC)),
)
SPANS = st.one_of(
    st.sampled_from([timedelta(0), timedelta(hours=168), timedelta(microseconds=-1)]),
    st.timedeltas(timedelta(days=-30), timedelta(days=30)),
    st.timedeltas(-LONGEST, LONGEST),
)
SOME_TEXTS = ["", "a", "b", "ab", "loyal", "new", "Aé😀", "e\u0301", "ß\n", "a.b"]
SOME_INTS = [0, 1, -1, 2, 3, -3, 31, LOWEST, LOWEST + 1, HIGHEST, 2**53 + 1, 2**62, 86_400]
SOME_DOUBLES = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e308, -1e308, 5e-324, 2.0**63, -(2.0**63)]


def made_users(seed: int, count: int = 12) -> list[User]:
    """Users with values that are apt to find faults; about a third of them are missing."""
    random = Random(seed)
    return [
        {
            name: _made_value(kind, random)
            for name, kind in SCHEMA.types.items()
            if random.random() < 0.7
        }
        for _ in range(count)
    ]


def _made_value(kind: AttributeType, random: Random) -> Any:
    match kind:
        case AttributeType.INT:
            return random.choice(
                [*SOME_INTS, random.randint(-9, 9), random.randint(LOWEST, HIGHEST)]
            )
        case AttributeType.DOUBLE:
            return random.choice(
                [*SOME_DOUBLES, random.uniform(-9, 9), float(random.randint(-9, 9))]
            )
        case AttributeType.STRING:
            return random.choice(SOME_TEXTS)
        case AttributeType.BOOL:
            return random.random() < 0.5
        case AttributeType.TIMESTAMP:
            near = NOW + timedelta(microseconds=random.randint(-(10**15), 10**15))
            far = datetime(random.randint(1, 9999), 3, 29, 0, random.randint(0, 59), tzinfo=UTC)
            return random.choice([near, near, far, NOW, datetime(1, 1, 1, tzinfo=UTC), _LAST_TIME])
        case AttributeType.DURATION:
            longest = LONGEST // timedelta(microseconds=1)
            microseconds = random.choice([0, -1, 10**6, random.randint(-longest, longest)])
            return timedelta(
                microseconds=random.choice([microseconds, random.randint(-(10**11), 10**11)])
            )
        case AttributeType.STRING_LIST:
            return random.choices(SOME_TEXTS, k=random.randint(0, 4))
        case _:
            keys = random.sample(SOME_TEXTS[1:], k=random.randint(0, 4))
            return {key: _made_value(AttributeType.DOUBLE, random) for key in keys}


USERS = st.integers(0, 2**32).map(made_users)
"""Twelve users. Made from a seed: drawn one by one, they would take longer than all the rest."""


def table(users: Iterable[User], schema: Schema = SCHEMA) -> Columns:
    """The users as columns."""
    typed = ({name: typed_value(value) for name, value in user.items()} for user in users)
    return build_columns(typed, schema)
