"""Users, items and attributes as an app has them, for bench.inverse: made from a seed, in blocks.

Vectors lie in clusters of unequal size, their components fade like a factorisation's, and their
lengths are log-normal, as activity is. Countries follow Zipf's law and lack for some users,
sessions are log-normal, and the time since the last visit is exponential with a heavy tail.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.candidate.expressions import AttributeType, Columns
from services.candidate.expressions.columns import Column, PlainColumn, TextColumn
from services.candidate.expressions.values import microseconds
from services.candidate.sources.arrays import Floats

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
# fmt: off
COUNTRIES = (
    "US", "IN", "BR", "ID", "MX", "DE", "JP", "GB", "FR", "TR", "PH", "VN", "TH", "IT",
    "ES", "PL", "CA", "AR", "CO", "EG", "NG", "KR", "MY", "ZA", "AU", "NL", "SA", "RO",
    "PE", "CL", "BE", "SE", "CZ", "PT", "GR", "HU", "AT", "CH", "IL", "DK",
)
# fmt: on
MARKET = ("US", "IN", "BR", "ID")
LEAST_SESSIONS = 5
RECENT = timedelta(days=30)
LAST_WEEK = timedelta(days=7)
FILTER = (
    f"user.country in {list(MARKET)} && user.sessions_30d >= {LEAST_SESSIONS} "
    '&& user.last_seen > now - duration("720h")'
).replace("'", '"')
BOOSTER = (
    'user.last_seen > now - duration("168h") ? 1.5 '
    ': user.sessions_30d >= 20 ? 1.25 : user.country == "US" ? 1.1 : 1.0'
)
"""A choice of constants: its bound lets rows be left out by their score alone."""
SMOOTH_BOOSTER = (
    '1.0 + double(user.sessions_30d) / 100.0 + (user.country == "US" ? 0.1 : 0.0) '
    '+ (user.last_seen > now - duration("168h") ? 0.5 : 0.0)'
)
"""Grows with an attribute, so it has no bound: each row that matches is judged."""

_CLUSTERS = 64
_MADE_AT_ONCE = 65_536
_MISSING = 0.03


@dataclass(frozen=True, eq=False, slots=True)
class Users:
    """Vectors [n, d] and columns of n rows."""

    vectors: Floats
    columns: Columns

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors and columns themselves."""
        return self.vectors.nbytes + self.columns.nbytes

    def first(self, count: int) -> "Users":
        """The first rows, as views."""
        columns = {name: _cut(column, count) for name, column in self.columns.columns.items()}
        cut = Columns(count, self.columns.types, MappingProxyType(columns), MappingProxyType({}))
        return Users(self.vectors[:count], cut)


def make_users(count: int, dimensions: int, seed: int = 1) -> Users:
    """The first `count` users of a seed: more of them begin with the same ones."""
    vectors = np.empty((count, dimensions), np.float32)
    country = np.empty(count, np.uint8)
    sessions = np.empty(count, np.int64)
    seen = np.empty(count, np.int64)
    for number, start in enumerate(range(0, count, _MADE_AT_ONCE)):
        random = np.random.default_rng((seed, number))
        part = slice(start, min(start + _MADE_AT_ONCE, count))
        size = part.stop - part.start
        # Whole blocks are drawn, so that the last one is the beginning of a longer table's.
        vectors[part] = _vectors(random, _MADE_AT_ONCE, dimensions)[:size]
        country[part] = _countries(random)[:size]
        sessions[part] = random.lognormal(1.6, 1.2, _MADE_AT_ONCE)[:size]
        seen[part] = microseconds(NOW) - _spans_since(random)[:size]
    return Users(vectors, _columns(country, sessions, seen))


def make_items(count: int, dimensions: int, seed: int = 1) -> Floats:
    """Vectors of items to ask about, [count, d]."""
    return _vectors(np.random.default_rng((seed, 1 << 30)), count, dimensions)


def matching(columns: Columns) -> NDArray[np.bool_]:
    """What FILTER matches, in plain NumPy: the reference, and what libraries without filters are
    given."""
    country, sessions, seen = arrays(columns)
    wanted = [COUNTRIES.index(name) for name in MARKET]
    found: NDArray[np.bool_] = np.isin(country, wanted) & (sessions >= LEAST_SESSIONS)
    found &= seen > microseconds(NOW - RECENT)
    return found


def factors(columns: Columns, booster: str) -> NDArray[np.float64]:
    """What a booster of this module gives, in plain NumPy: the reference. A missing country is an
    error where it is asked for, so the factor is 1 there."""
    country, sessions, seen = arrays(columns)
    home, lately = country == COUNTRIES.index("US"), seen > microseconds(NOW - LAST_WEEK)
    if booster == BOOSTER:
        rest = np.where(sessions >= 20, 1.25, np.where(home, 1.1, 1.0))
        return np.where(lately, 1.5, rest)
    grown = 1.0 + sessions / 100.0 + np.where(home, 0.1, 0.0) + np.where(lately, 0.5, 0.0)
    return np.where(country == len(COUNTRIES), 1.0, grown)


def row_blocks(users: Users, size: int) -> Iterator[tuple[slice, list[str | None]]]:
    """Slices of the rows with their countries as texts, for loading into databases."""
    names = [*COUNTRIES, None]
    country = arrays(users.columns)[0]
    for start in range(0, users.columns.size, size):
        part = slice(start, min(start + size, users.columns.size))
        yield part, [names[code] for code in country[part].tolist()]


def arrays(
    columns: Columns,
) -> tuple[NDArray[np.integer], NDArray[np.int64], NDArray[np.int64]]:
    """Codes of the countries, sessions, and times of the last visit."""
    country, sessions, seen = (
        columns.columns[name] for name in ("country", "sessions_30d", "last_seen")
    )
    assert isinstance(country, TextColumn)
    assert isinstance(sessions, PlainColumn)
    assert isinstance(seen, PlainColumn)
    return country.codes, sessions.values.view(np.int64), seen.values.view(np.int64)


def _vectors(random: np.random.Generator, count: int, dimensions: int) -> Floats:
    fading = (1.0 + np.arange(dimensions) / 8.0) ** -0.5
    centres = np.random.default_rng(7).standard_normal((_CLUSTERS, dimensions)) * fading
    shares = 1.0 / np.arange(1, _CLUSTERS + 1)
    cluster = random.choice(_CLUSTERS, count, p=shares / shares.sum())
    made = random.standard_normal((count, dimensions), dtype=np.float32)
    made *= fading.astype(np.float32)
    made += centres.astype(np.float32)[cluster]
    made *= random.lognormal(-1.0, 0.5, (count, 1)).astype(np.float32)
    found: Floats = made
    return found


def _countries(random: np.random.Generator) -> NDArray[np.uint8]:
    shares = 1.0 / np.arange(1, len(COUNTRIES) + 1)
    shares *= (1.0 - _MISSING) / shares.sum()
    return random.choice(len(shares) + 1, _MADE_AT_ONCE, p=[*shares, _MISSING]).astype(np.uint8)


def _spans_since(random: np.random.Generator) -> NDArray[np.int64]:
    days = random.exponential(8.0, _MADE_AT_ONCE) * random.lognormal(0.0, 1.0, _MADE_AT_ONCE)
    return (np.minimum(days, 720.0) * 86_400e6).astype(np.int64)


def _columns(
    country: NDArray[np.uint8], sessions: NDArray[np.int64], seen: NDArray[np.int64]
) -> Columns:
    types = {
        "country": AttributeType.STRING,
        "sessions_30d": AttributeType.INT,
        "last_seen": AttributeType.TIMESTAMP,
    }
    columns: dict[str, Column] = {
        "country": TextColumn(country, pa.array([*COUNTRIES, ""], pa.large_string())),
        "sessions_30d": PlainColumn(sessions, None),
        "last_seen": PlainColumn(seen, None),
    }
    return Columns(
        len(country), MappingProxyType(types), MappingProxyType(columns), MappingProxyType({})
    )


def _cut(column: object, count: int) -> PlainColumn | TextColumn:
    if isinstance(column, TextColumn):
        return TextColumn(column.codes[:count], column.vocabulary)
    assert isinstance(column, PlainColumn)
    return PlainColumn(column.values[:count], column.present)
