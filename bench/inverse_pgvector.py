"""pgvector in the embedded Postgres, as a rival of bench.inverse.

One connection with prepared statements and no parallel workers, as all contenders have one core;
two gigabytes of shared buffers and of memory to build indexes in; an index of the filtered columns,
and fresh statistics. HNSW has its default m = 16 and ef_construction = 64, is searched with
ef_search = 100, and scans on (`iterative_scan`) where the filter leaves too few.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psycopg
from numpy.typing import NDArray

from bench.inverse_data import LEAST_SESSIONS, MARKET, NOW, RECENT, Users, arrays, row_blocks
from bench.inverse_search import COUNT
from services.candidate.expressions.values import microseconds
from services.candidate.sources.arrays import Floats, Rows
from services.runtime.postgres import EmbeddedPostgres, launcher

MEMORY = "2GB"
NO_COUNTRY = b"ZZ"
"""Stands for a missing country, so that all rows have one layout."""
_ROWS = 20_000
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_POSTGRES_EPOCH = microseconds(datetime(2000, 1, 1, tzinfo=UTC))


class Pgvector:
    """A table with vectors."""

    def __init__(self, connection: "psycopg.Connection[tuple[int]]") -> None:
        self._connection = connection
        names = ", ".join(f"'{name}'" for name in MARKET)
        self._condition = (
            f"WHERE country IN ({names}) AND sessions_30d >= {LEAST_SESSIONS} "
            f"AND last_seen > '{(NOW - RECENT).isoformat()}'"
        )

    def find(self, item: Floats) -> Rows:
        """Rows of the best."""
        return self._find("", item)

    def find_filtered(self, item: Floats) -> Rows:
        """Rows of the best that match."""
        return self._find(self._condition, item)

    def _find(self, condition: str, item: Floats) -> Rows:
        query = f"SELECT id FROM users {condition} ORDER BY embedding <#> %s::vector LIMIT {COUNT}"
        found = self._connection.execute(
            query.encode(), [str(item.tolist())], prepare=True
        ).fetchall()
        return np.array([row[0] for row in found], np.int64)


@contextmanager
def pgvector_exact(users: Users) -> Iterator[Pgvector]:
    """Without an index of the vectors."""
    with _server() as connection:
        _load(connection, users)
        yield Pgvector(connection)


@contextmanager
def pgvector_hnsw(users: Users) -> Iterator[Pgvector]:
    """With one."""
    with _server() as connection:
        _load(connection, users)
        connection.execute("CREATE INDEX ON users USING hnsw (embedding vector_ip_ops)")
        connection.execute("SET hnsw.ef_search = 100")
        connection.execute("SET hnsw.iterative_scan = strict_order")
        yield Pgvector(connection)


@contextmanager
def _server() -> Iterator["psycopg.Connection[tuple[int]]"]:
    with tempfile.TemporaryDirectory(prefix="heliograph-bench-") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        with patch.dict(launcher.SETTINGS, shared_buffers=MEMORY):
            server.start()
        try:
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute("CREATE EXTENSION vector")
                connection.execute("SET max_parallel_workers_per_gather = 0")
                connection.execute("SET max_parallel_maintenance_workers = 0")
                connection.execute(f"SET maintenance_work_mem = '{MEMORY}'".encode())
                yield connection
        finally:
            server.remove()


def _load(connection: "psycopg.Connection[tuple[int]]", users: Users) -> None:
    dimensions = users.vectors.shape[1]
    columns = (
        f"id integer PRIMARY KEY, embedding vector({dimensions}) NOT NULL, country text NOT NULL, "
        "sessions_30d bigint NOT NULL, last_seen timestamptz NOT NULL"
    )
    connection.execute(f"CREATE TABLE users ({columns})".encode())
    with connection.cursor().copy("COPY users FROM STDIN (FORMAT binary)") as copy:
        copy.write(_HEADER)
        for rows, countries in row_blocks(users, _ROWS):
            copy.write(_encoded(users, rows, countries).tobytes())
        copy.write(_TRAILER)
    connection.execute("CREATE INDEX ON users (country, last_seen)")
    connection.execute("VACUUM ANALYZE users")


def _encoded(users: Users, rows: slice, countries: list[str | None]) -> NDArray[np.void]:
    """Rows of Postgres's binary COPY: the number of fields, then the size and bytes of each."""
    dimensions = users.vectors.shape[1]
    _, sessions, seen = arrays(users.columns)
    layout = np.dtype(
        [
            ("fields", ">i2"),
            ("id_size", ">i4"),
            ("id", ">i4"),
            ("embedding_size", ">i4"),
            ("dimensions", ">i2"),
            ("unused", ">i2"),
            ("embedding", ">f4", (dimensions,)),
            ("country_size", ">i4"),
            ("country", "S2"),
            ("sessions_size", ">i4"),
            ("sessions", ">i8"),
            ("seen_size", ">i4"),
            ("seen", ">i8"),
        ]
    )
    found = np.zeros(rows.stop - rows.start, layout)
    found["fields"], found["dimensions"] = 5, dimensions
    found["id_size"], found["embedding_size"] = 4, 4 + 4 * dimensions
    found["country_size"], found["sessions_size"], found["seen_size"] = 2, 8, 8
    found["id"] = np.arange(rows.start, rows.stop)
    found["embedding"] = users.vectors[rows]
    found["country"] = [NO_COUNTRY if name is None else name.encode() for name in countries]
    found["sessions"] = sessions[rows]
    found["seen"] = seen[rows] - _POSTGRES_EPOCH
    return found
