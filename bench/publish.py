"""`python -m bench.publish --json OUT`: PublishEventStream beside the bare COPY of the same rows.

The candidate service runs in a process of its own on an embedded Postgres. In each round one stream
publishes new events about existing users, in messages of 1,000 that were serialised before. The
rows that it has stored are then copied, in the order in which they were offered, into a twin: a
table with the same columns, defaults, constraints, indexes and partitions, but without users to
lock, items to look up, pools to bound and arrivals to announce. A quarter of the rows each goes
there as text and in binary form, in commits of 1,000 rows and in one transaction, in turns, so that
both tables grow alike. The goal is held against the fastest COPY that is as durable as the stream,
which is binary and commits each message's rows.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import grpc
import numpy as np
import psycopg
from heliograph.candidate.v1alpha1 import publishing_pb2
from heliograph.type.v1alpha1 import event_pb2
from numpy.typing import NDArray

from bench.candidate_service import BenchService, candidate_service
from bench.catalogue_data import Connection, copy_items, copy_users, item_id, user_id
from bench.interleaved import ratio
from bench.report import BenchReport, Metric
from bench.service_process import bench_database

GOAL = 0.5
PACKAGES = ("grpcio", "protobuf", "psycopg", "sqlalchemy")
METHOD = "/heliograph.candidate.v1alpha1.CandidateService/PublishEventStream"
EVENT_TYPE = "bench.event"
BATCH = 1_000
ITEMS = 2_000
PARTITIONS = 16
TWIN = "public.bare_events"
VECTORS_SECONDS = 300.0
BINARY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
BINARY_END = b"\xff\xff"


class Manner(NamedTuple):
    """A way to copy rows."""

    name: str
    form: Literal["text", "binary"]
    commits: bool
    """After each BATCH rows; else once."""


MANNERS = (
    Manner("binary_in_commits", "binary", True),
    Manner("text_in_commits", "text", True),
    Manner("binary_at_once", "binary", False),
    Manner("text_at_once", "text", False),
)


def published(service: BenchService, requests: Sequence[bytes]) -> float:
    """Seconds that one stream takes. Raises RuntimeError when an event is rejected."""
    call: grpc.StreamUnaryMultiCallable[bytes, publishing_pb2.PublishEventStreamResponse]
    call = service.channel.stream_unary(
        METHOD, None, publishing_pb2.PublishEventStreamResponse.FromString
    )
    start = time.perf_counter()
    answer = call(iter(requests))
    seconds = time.perf_counter() - start
    if answer.rejected_count:
        raise RuntimeError(f"{answer.rejected_count} events rejected: {answer.rejections[0]}")
    return seconds


def batches(number: int, events: int, users: int, random: np.random.Generator) -> Iterator[bytes]:
    """New events of a round: of users at random, each about an item, with a small payload."""
    for start in range(0, events, BATCH):
        size = min(BATCH, events - start)
        who, what = random.integers(0, users, size), random.integers(0, ITEMS, size)
        scores = random.random(size)
        yield publishing_pb2.PublishEventStreamRequest(
            events=[
                event_pb2.Event(
                    user_id=user_id(user),
                    event_id=f"r{number}-{start + place}",
                    event_type=EVENT_TYPE,
                    item_ids=[item_id(item)],
                    payload={"reason": "a friend liked it", "friend": user_id(item)},
                    source="bench",
                    source_score=score,
                )
                for place, (user, item, score) in enumerate(zip(who, what, scores, strict=True))
            ]
        ).SerializeToString()


def make_twin(connection: Connection) -> None:
    """The table of events once more, but for its triggers, which act on changes only."""
    connection.execute(
        f"CREATE TABLE {TWIN} (LIKE candidate.events INCLUDING ALL) PARTITION BY HASH (user_id)"
    )
    for number in range(PARTITIONS):
        connection.execute(
            f"CREATE TABLE {TWIN}_{number} PARTITION OF {TWIN} "
            f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number})".encode()
        )


def stored_rows(
    connection: Connection, number: int, form: str, start: int, end: int
) -> Sequence[bytes]:
    """Rows of a round in COPY's form, those offered from place `start` to before `end`, in the
    order in which they were offered."""
    place = "CAST(split_part(event_id, '-', 2) AS integer)"
    query = (
        f"COPY (SELECT * FROM candidate.events WHERE event_id LIKE 'r{number}-%' "
        f"AND {place} >= {start} AND {place} < {end} ORDER BY {place}) TO STDOUT (FORMAT {form})"
    )
    with connection.cursor().copy(query.encode()) as copy:
        rows = [bytes(row).removeprefix(BINARY_HEADER) for row in copy]
    return [row for row in rows if row not in (b"", BINARY_END)]


def copied(connection: Connection, rows: Sequence[bytes], manner: Manner) -> float:
    """Seconds that COPY takes for some rows."""
    head, tail = (BINARY_HEADER, BINARY_END) if manner.form == "binary" else (b"", b"")
    size = BATCH if manner.commits else len(rows)
    parts = [
        b"".join([head, *rows[start : start + size], tail]) for start in range(0, len(rows), size)
    ]
    statement = f"COPY {TWIN} FROM STDIN (FORMAT {manner.form})".encode()
    start = time.perf_counter()
    for part in parts:
        with connection.cursor().copy(statement) as copy:
            copy.write(part)
    return time.perf_counter() - start


def copied_quarters(connection: Connection, number: int, events: int) -> list[float]:
    """Microseconds a row of each manner in a round, each on another quarter of its rows."""
    quarter = events // len(MANNERS)
    taken = []
    for place, manner in enumerate(MANNERS):
        start = (place + number) % len(MANNERS) * quarter
        rows = stored_rows(connection, number, manner.form, start, start + quarter)
        if len(rows) != quarter:
            raise RuntimeError(f"{len(rows)} rows are stored of {quarter}")
        taken.append(copied(connection, rows, manner) / quarter * 1e6)
    return taken


def await_vectors(connection: Connection) -> None:
    """Until the service is done with the items' texts, which it reads at its start. Raises
    RuntimeError when it doesn't get there."""
    deadline = time.monotonic() + VECTORS_SECONDS
    while time.monotonic() < deadline:
        found = connection.execute("SELECT count(*) FROM candidate.item_vectors").fetchone()
        if found == (ITEMS,):
            return
        time.sleep(0.2)
    raise RuntimeError("the items' texts got no vectors")


def report(events: int, users: int, rounds: int) -> BenchReport:
    """Rounds in turns, after one that doesn't count."""
    random = np.random.default_rng(1)
    streams: list[float] = []
    copies: list[list[float]] = []
    with bench_database() as database, psycopg.connect(database.url, autocommit=True) as connection:
        copy_users(connection, users)
        copy_items(connection, ITEMS)
        make_twin(connection)
        with candidate_service(database) as service:
            service.register(EVENT_TYPE)
            await_vectors(connection)
            for number in range(rounds + 1):
                requests = list(batches(number, events, users, random))
                streams.append(published(service, requests) / events * 1e6)
                copies.append(copied_quarters(connection, number, events))
    return _report(np.array(streams[1:]), np.array(copies[1:]).T, events, users)


def _report(
    taken: NDArray[np.float64], bare: NDArray[np.float64], events: int, users: int
) -> BenchReport:
    """From microseconds an event by round, and manner × round."""
    metrics = {}
    for manner, seconds in zip(MANNERS, bare, strict=True):
        value, interval = ratio(seconds, taken)
        unit = "× the rate of COPY"
        metrics[f"stream_over_{manner.name}"] = Metric(value, unit, GOAL, "higher", interval)
    rates = {f"{m.name}_per_s": (1e6 / one).tolist() for m, one in zip(MANNERS, bare, strict=True)}
    series = {"events": events, "users": users, "stream_per_s": (1e6 / taken).tolist(), **rates}
    return BenchReport("publish", metrics, series, PACKAGES)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.publish", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    parser.add_argument("--events", type=int, default=40_000, help="of a round")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(arguments)
    found = report(given.events, given.users, given.rounds)
    for name in ("stream", *(manner.name for manner in MANNERS)):
        print(f"{name}: {np.median(found.series[f'{name}_per_s']):,.0f} events/s")
    found.print()
    found.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
