"""`python -m bench.sendability --users 1000000 --json OUT`: `respect_budget` over many recipients.

candidate and policy run in processes of their own on an embedded Postgres, with users and
recipients put into their tables by COPY. Measured are the time that candidate needs to learn all
budgets, from the first question that asks for them, and over reading them again; what other calls
of both services take meanwhile, beside what they take in peace; and RecommendUsersToItem with
budgets beside the same without, in turns. Then policy is killed: no answer may fail, budgets are
to be stated as unknown once they are a minute old, and to be known again when policy is back.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

import grpc
import numpy as np
import psycopg
from heliograph.candidate.v1alpha1 import recommending_pb2
from heliograph.policy.v1alpha1 import policy_pb2_grpc, recipients_pb2, sendability_pb2

from bench.candidate_service import BenchService, candidate_service
from bench.catalogue_data import copy_interactions, copy_items, copy_users, item_id, user_id
from bench.interleaved import Seconds, interleaved, milliseconds, ratio_metric
from bench.recipient_data import copy_recipients, fill_pools
from bench.report import BenchReport, Metric
from bench.service_process import (
    BenchDatabase,
    ServiceProcess,
    bench_database,
    free_address,
    service_process,
)

PACKAGES = ("grpcio", "numpy", "psycopg", "sqlalchemy")
ITEMS = 500
PER_USER = 0.3
COUNT = 100
"""Users in an answer."""
CONTEXTS = 10
"""Users whose contexts a call asks policy for."""
SECONDS_GOALS = {"reading": 20.0, "refresh": 30.0}
"""Of the first reading, and of reading again: budgets are too old to be used with 60 s, so twice 30
just does."""
LATENCY_GOAL = 2.0
"""Most of the median latency of other calls while budgets are read, over that in peace."""
BUDGET_GOAL = 1.5
"""Most of the median latency with budgets, over that without."""
QUIET_SECONDS = 5.0
PATIENCE_SECONDS = 120.0
USES = {
    "plain": recommending_pb2.BUDGET_USE_UNSPECIFIED,
    "exclude": recommending_pb2.BUDGET_USE_EXCLUDE,
    "discount": recommending_pb2.BUDGET_USE_DISCOUNT,
}

T = TypeVar("T")
StartPolicy = Callable[[], AbstractContextManager[ServiceProcess]]


class Watched:
    """Calls one thing again and again in a thread and keeps when each call began and what it
    took."""

    def __init__(self, call: Callable[[int], object]) -> None:
        self._call = call
        self._ended = Event()
        self._thread = Thread(target=self._run)
        self._calls: list[tuple[float, float]] = []

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def seconds(self, begin: float = 0.0, end: float = float("inf")) -> Seconds:
        """Of each call that began between two times of `perf_counter`."""
        return np.array([took for start, took in self._calls if begin <= start < end])

    def _run(self) -> None:
        number = 0
        while not self._ended.is_set():
            start = time.perf_counter()
            self._call(number)
            self._calls.append((start, time.perf_counter() - start))
            number += 1
            time.sleep(0.02)


def ask(service: BenchService, use: str, number: int) -> recommending_pb2.BudgetReport:
    """RecommendUsersToItem; answers what it says of budgets."""
    request = recommending_pb2.RecommendUsersToItemRequest(item_id=item_id(number % ITEMS))
    request.parameters.count = COUNT
    request.parameters.respect_budget = USES[use]
    answer = service.stub.RecommendUsersToItem(request, timeout=60.0)
    return answer.budget


def contexts(policy: ServiceProcess, users: int) -> Callable[[int], object]:
    """A small call to policy."""
    stub = policy_pb2_grpc.PolicyServiceStub(policy.channel)

    def call(number: int) -> object:
        names = [user_id((number * 7919 + place) % users) for place in range(CONTEXTS)]
        request = recipients_pb2.GetUserContextsRequest(user_ids=names)
        return stub.GetUserContexts(request, timeout=60.0)

    return call


def streamed(policy: ServiceProcess) -> tuple[float, int, int]:
    """Seconds, users and bytes of one StreamSendability."""
    stub = policy_pb2_grpc.PolicyServiceStub(policy.channel)
    start, users, size = time.perf_counter(), 0, 0
    for chunk in stub.StreamSendability(sendability_pb2.StreamSendabilityRequest()):
        users, size = users + len(chunk.user_ids), size + chunk.ByteSize()
    return time.perf_counter() - start, users, size


def await_state(service: BenchService, known: bool) -> tuple[float, float, int]:
    """Ask for budgets until they are known, or unknown: seconds until then, the longest call, and
    how many calls failed. Raises RuntimeError when it takes too long."""
    wanted = recommending_pb2.BUDGET_STATE_KNOWN if known else recommending_pb2.BUDGET_STATE_UNKNOWN
    start, longest, failed, number = time.perf_counter(), 0.0, 0, 0
    while time.perf_counter() - start < PATIENCE_SECONDS:
        before = time.perf_counter()
        try:
            found = ask(service, "exclude", number).state
        except grpc.RpcError:
            failed, found = failed + 1, recommending_pb2.BUDGET_STATE_UNSPECIFIED
        longest = max(longest, time.perf_counter() - before)
        if found == wanted:
            return time.perf_counter() - start, longest, failed
        number += 1
        time.sleep(0.1)
    raise RuntimeError(f"budgets did not become {'known' if known else 'unknown'}")


def await_refresh(service: BenchService) -> tuple[float, float]:
    """Ask for budgets until they were read again: when that began and ended, by `perf_counter`.
    Raises RuntimeError when it takes too long."""
    start, age = time.perf_counter(), 0.0
    while time.perf_counter() - start < PATIENCE_SECONDS:
        found = ask(service, "exclude", 0)
        now, before, age = time.perf_counter(), age, found.age.ToTimedelta().total_seconds()
        if found.state == recommending_pb2.BUDGET_STATE_KNOWN and age < before:
            return now - age, now
        time.sleep(0.5)
    raise RuntimeError("budgets were not read again")


def while_read(
    candidate: BenchService, policy: ServiceProcess, calls: dict[str, Callable[[int], object]]
) -> tuple[dict[str, tuple[Seconds, Seconds]], dict[str, float]]:
    """Seconds of calls while budgets are read for the first time, read again, or streamed straight
    from policy, each with those of the same calls in peace; and how long reading took."""
    _watched(calls["recommend"], _rest)  # not counted: what comes first is slower in any case
    reading_calls, (reading, _, _) = _watched(
        calls["recommend"], lambda: await_state(candidate, known=True)
    )
    refresh_calls: dict[str, Watched] = {}
    refreshes: dict[str, tuple[float, float]] = {}
    for name, call in calls.items():
        refresh_calls[name], refreshes[name] = _watched(call, lambda: await_refresh(candidate))
    stream_calls, _ = _watched(calls["contexts"], lambda: streamed(policy))
    quiet = {name: _watched(call, _rest)[0].seconds() for name, call in calls.items()}
    found = {
        "recommend_while_read": (reading_calls.seconds(), quiet["recommend"]),
        "contexts_while_read": (stream_calls.seconds(), quiet["contexts"]),
    }
    for name, watched in refresh_calls.items():
        peace = np.append(quiet[name], watched.seconds(0.0, refreshes[name][0]))
        found[f"{name}_while_refreshed"] = watched.seconds(*refreshes[name]), peace
    begin, end = refreshes["recommend"]
    return found, {"reading": reading, "refresh": end - begin}


def measure(
    database: BenchDatabase,
    candidate: BenchService,
    start_policy: StartPolicy,
    users: int,
    rounds: int,
) -> BenchReport:
    """All figures."""
    metrics: dict[str, Metric] = {}
    series: dict[str, Any] = {"users": users}

    asking = {use: _asking(candidate, use) for use in USES}
    with start_policy() as policy:
        memory = {"candidate": candidate.memory(), "policy": policy.memory()}
        calls = {"recommend": asking["plain"], "contexts": contexts(policy, users)}
        pairs, taken = while_read(candidate, policy, calls)
        for name, seconds in taken.items():
            metrics[name] = Metric(seconds, "s", SECONDS_GOALS[name], "lower")
        for name, (busy, peace) in pairs.items():
            value = float(np.median(busy) / np.median(peace))
            metrics[name] = Metric(value, "× in peace", LATENCY_GOAL, "lower")
        by_use = interleaved(asking, rounds)
        for use in ("exclude", "discount"):
            metrics[f"{use}_over_plain"] = ratio_metric(by_use[use], by_use["plain"], BUDGET_GOAL)
        series["stream_s"], series["stream_users"], series["stream_bytes"] = streamed(policy)
        series["memory_before"] = memory
        series["memory_after"] = {"candidate": candidate.memory(), "policy": policy.memory()}
        series["latency_ms"] = {name: list(map(_told, both)) for name, both in pairs.items()}
        series["median_ms"] = milliseconds(by_use)
        os.kill(policy.pid, signal.SIGKILL)
        lost = await_state(candidate, known=False)
    with start_policy() as policy:
        processors: dict[str, BenchDatabase | ServiceProcess] = {
            "postgres": database,
            "policy": policy,
            "candidate": candidate,
        }
        before = {name: one.cpu_seconds() for name, one in processors.items()}
        found = await_state(candidate, known=True)
        series["reading_cpu_s"] = {
            name: one.cpu_seconds() - before[name] for name, one in processors.items()
        }
    metrics["failed_without_policy"] = Metric(lost[2] + found[2], "calls", 0.0, "lower")
    series["unknown_after_s"], series["longest_call_without_policy_s"], _ = lost
    series["known_again_after_s"] = found[0]
    return BenchReport("sendability", metrics, series, PACKAGES)


def _asking(service: BenchService, use: str) -> Callable[[int], object]:
    return lambda number: ask(service, use, number)


def _watched(call: Callable[[int], object], during: Callable[[], T]) -> tuple[Watched, T]:
    """Calls while something goes on, and what that gives."""
    with Watched(call) as watched:
        found = during()
    return watched, found


def _rest() -> None:
    time.sleep(QUIET_SECONDS)


def _told(seconds: Seconds) -> dict[str, float]:
    return {
        "median": round(float(np.median(seconds)) * 1e3, 2),
        "p95": round(float(np.quantile(seconds, 0.95)) * 1e3, 2),
        "longest": round(float(seconds.max()) * 1e3, 2),
    }


def report(users: int, rounds: int) -> BenchReport:
    """One run."""
    with bench_database() as database:
        with psycopg.connect(database.url, autocommit=True) as connection:
            copy_users(connection, users)
            fill_pools(connection)
            copy_items(connection, ITEMS)
            copy_interactions(connection, users, ITEMS, PER_USER)
            copy_recipients(connection, users)
            # Else both go on in the background, for as long as reading takes.
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")
        environ = {"HELIOGRAPH_POLICY_LISTEN": free_address()}
        with candidate_service(database, environ) as candidate:
            return measure(
                database,
                candidate,
                lambda: service_process("policy", database, environ),
                users,
                rounds,
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.sendability", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args(arguments)
    found = report(given.users, given.rounds)
    for name in (
        "reading_cpu_s",
        "stream_s",
        "stream_bytes",
        "memory_before",
        "memory_after",
        "latency_ms",
    ):
        print(name, found.series[name])
    found.print()
    found.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
