"""`python -m bench.publish --json OUT`: PublishEventStream beside the bare COPY of the same rows.

The candidate service runs in a process of its own on an embedded Postgres. In each round one stream
publishes new events about existing users, in batches of 1,000, and the rows that it has stored are
then copied, by one binary COPY, into an empty-handed twin: a table with the same columns, defaults,
constraints, indexes and partitions, but without users to lock, items to look up, pools to bound and
arrivals to announce. Both tables grow alike.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psycopg
from heliograph.candidate.v1alpha1 import publishing_pb2
from heliograph.type.v1alpha1 import event_pb2

from bench.candidate_service import BenchService, bench_database, candidate_service
from bench.catalogue_data import Connection, copy_items, copy_users, item_id, user_id
from bench.interleaved import ratio
from bench.report import BenchReport, Metric

GOAL = 0.5
PACKAGES = ("grpcio", "protobuf", "psycopg", "sqlalchemy")
EVENT_TYPE = "bench.event"
BATCH = 1_000
ITEMS = 2_000
PARTITIONS = 16
TWIN = "public.bare_events"


def published(
    service: BenchService, requests: Sequence[publishing_pb2.PublishEventStreamRequest]
) -> float:
    """Seconds that one stream takes. Raises RuntimeError when an event is rejected."""
    start = time.perf_counter()
    answer = service.stub.PublishEventStream(iter(requests))
    seconds = time.perf_counter() - start
    if answer.rejected_count:
        raise RuntimeError(f"{answer.rejected_count} events rejected: {answer.rejections[0]}")
    return seconds


def batches(
    number: int, events: int, users: int, random: np.random.Generator
) -> Iterator[publishing_pb2.PublishEventStreamRequest]:
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
        )


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


def copied(connection: Connection, number: int) -> float:
    """Seconds that COPY takes for the rows of a round, in one transaction."""
    query = f"COPY (SELECT * FROM candidate.events WHERE event_id LIKE 'r{number}-%') TO STDOUT"
    with connection.cursor().copy(f"{query} (FORMAT binary)".encode()) as copy:
        rows = b"".join(bytes(part) for part in copy)
    start = time.perf_counter()
    with connection.cursor().copy(f"COPY {TWIN} FROM STDIN (FORMAT binary)") as copy:
        copy.write(rows)
    return time.perf_counter() - start


def report(events: int, users: int, rounds: int) -> BenchReport:
    """Rounds in turns, after one that doesn't count."""
    random = np.random.default_rng(1)
    streams, copies = [], []
    with bench_database() as database, psycopg.connect(database.url, autocommit=True) as connection:
        copy_users(connection, users)
        copy_items(connection, ITEMS)
        make_twin(connection)
        with candidate_service(database) as service:
            service.register(EVENT_TYPE)
            for number in range(rounds + 1):
                streams.append(published(service, list(batches(number, events, users, random))))
                copies.append(copied(connection, number))
    taken, bare = np.array(streams[1:]), np.array(copies[1:])
    value, interval = ratio(bare, taken)
    return BenchReport(
        "publish",
        {"stream_over_copy": Metric(value, "× the rate of COPY", GOAL, "higher", interval)},
        {
            "events": events,
            "users": users,
            "stream_per_s": (events / taken).tolist(),
            "copy_per_s": (events / bare).tolist(),
        },
        PACKAGES,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.publish", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    parser.add_argument("--events", type=int, default=20_000, help="of a round")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(arguments)
    found = report(given.events, given.users, given.rounds)
    for name in ("stream_per_s", "copy_per_s"):
        print(f"{name}: {np.median(found.series[name]):,.0f}")
    found.print()
    found.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
