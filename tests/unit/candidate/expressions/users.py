"""Users with attributes of all types, as Python values, and strategies that draw them."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
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
_FIRST = datetime(1, 1, 1)
_LAST = datetime(9999, 12, 31, 23, 59, 59, 999999)
_LONGEST = timedelta(days=106_751)
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
    st.datetimes(_FIRST, _LAST).map(lambda at: at.replace(tzinfo=UTC)),
)
SPANS = st.one_of(
    st.sampled_from([timedelta(0), timedelta(hours=168), timedelta(microseconds=-1)]),
    st.timedeltas(timedelta(days=-30), timedelta(days=30)),
    st.timedeltas(-_LONGEST, _LONGEST),
)
_VALUES = {
    AttributeType.INT: INTS,
    AttributeType.DOUBLE: DOUBLES,
    AttributeType.STRING: TEXTS,
    AttributeType.BOOL: st.booleans(),
    AttributeType.TIMESTAMP: TIMES,
    AttributeType.DURATION: SPANS,
    AttributeType.STRING_LIST: st.lists(TEXTS, max_size=4),
    AttributeType.NUMBER_MAP: st.dictionaries(TEXTS.filter(bool), DOUBLES, max_size=4),
}

USERS = st.lists(
    st.fixed_dictionaries(
        {}, optional={name: _VALUES[kind] for name, kind in SCHEMA.types.items()}
    ),
    min_size=1,
    max_size=8,
)


def table(users: Iterable[User], schema: Schema = SCHEMA) -> Columns:
    """The users as columns."""
    typed = ({name: typed_value(value) for name, value in user.items()} for user in users)
    return build_columns(typed, schema)
