"""`python -m bench.ranker --json OUT`: events scored a second, through Rank and without it.

A ranker runs in a process of its own on an embedded Postgres that holds feature states and items;
calls come by gRPC, as bytes made before, from threads of the bench. Beside it a bare loop calls
ONNX Runtime on inputs prepared before, in the bench's own process: with all cores in one run and
with a run on each core, whichever is faster. So that it shows what calls cost in themselves, empty
ones (health checks of the same service) are made in the same way as the small ones. The contenders
take turns of some seconds; ratios are of the medians over the rounds. With `--triton` (after
`make triton` has installed it) a second ranker takes part whose model runs in a Triton server on
the same cores, in buckets chosen by the runs that the first one counted.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort

from bench.interleaved import Seconds, in_turns, ratio_metric
from bench.peer_servers import process, triton_command
from bench.rank_data import RankData
from bench.report import BenchReport, Metric
from bench.service_process import (
    BenchDatabase,
    ServiceProcess,
    bench_database,
    service_process,
)
from deploy.triton.render import MOST_BUCKETS, render
from deploy.triton.traffic import choose, read_traffic
from services.ranker.features import EVENT_FEATURES, USER_FEATURES, Features
from services.ranker.manifest import MODEL_FILE
from services.ranker.settings import RankerSettings
from services.ranker.triton_model.sessions import CPU, session_options

PACKAGES = ("grpcio", "numpy", "onnxruntime", "psycopg")
METHOD = "/heliograph.ranker.v1alpha1.RankerService/Rank"
EMPTY_METHOD = "/grpc.health.v1.Health/Check"
CALLS = 64
"""Different ones, again and again."""
SIZES: Mapping[str, tuple[int, int, int]] = {"batch": (32, 20, 16), "small": (1, 20, 64)}
"""Users, events of each, and calls in flight."""
LOADS = (0.3, 0.6, 0.9)
COUNTS = (1, 4, 16, 64, 256, 512)
"""Events of a call about one user."""
RANK_GOAL = 1 / 0.7
"""Time per event through Rank over that of the bare loop."""
TRITON_GOAL = 1 / 0.6
ROW_GOAL = 1 / 3


class Bare:
    """ONNX Runtime without anything around it."""

    def __init__(self, inputs: Sequence[Features], events: int) -> None:
        """`events` of each of the inputs."""
        self._inputs = inputs
        self._events = events

    def seconds_per_event(self, seconds: float) -> float:
        """The better of one run on all cores, and a run on each."""
        return min(
            self._taken(*shape, seconds / 2) for shape in ((1, self._cores), (self._cores, 1))
        )

    def turn(self, seconds: float) -> Callable[[int], float]:
        """The same, as a contender."""
        return lambda _: self.seconds_per_event(seconds)

    @cached_property
    def _cores(self) -> int:
        return len(os.sched_getaffinity(0))

    def _taken(self, loops: int, threads: int, seconds: float) -> float:
        session = self._sessions[threads]
        read = [each.name for each in session.get_inputs()]
        wanted = [{name: inputs[name] for name in read} for inputs in self._inputs]

        def loop(ends: float, first: int) -> int:
            runs = 0
            while time.perf_counter() < ends:
                session.run(["scores"], wanted[(first + runs) % len(wanted)])
                runs += 1
            return runs

        return per_event(loop, loops, seconds, self._events)

    @cached_property
    def _sessions(self) -> dict[int, ort.InferenceSession]:
        settings = RankerSettings()
        model = next(settings.model_dir.glob(f"*/{MODEL_FILE}")).read_bytes()
        return {
            threads: ort.InferenceSession(model, session_options(threads), providers=[CPU])
            for threads in {1, self._cores}
        }


class Called:
    """Rank, or another method, by gRPC."""

    def __init__(
        self,
        service: ServiceProcess,
        requests: Sequence[bytes],
        in_flight: int,
        method: str = METHOD,
    ) -> None:
        self._call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = service.channel.unary_unary(method)
        self._requests = requests
        self._in_flight = in_flight

    def seconds_per_event(self, events: int, seconds: float) -> float:
        """With so many events in each call."""

        def loop(ends: float, first: int) -> int:
            calls = 0
            while time.perf_counter() < ends:
                self._call(self._requests[(first + calls) % len(self._requests)], timeout=60.0)
                calls += 1
            return calls

        return per_event(loop, self._in_flight, seconds, events)

    def turn(self, events: int, seconds: float) -> Callable[[int], float]:
        """The same, as a contender."""
        return lambda _: self.seconds_per_event(events, seconds)

    def latency(self, calls_per_second: float, seconds: float) -> Seconds:
        """Of each call, that come at random times, whatever became of those before."""
        random = np.random.default_rng(1)
        taken: list[float] = []
        left = threading.Semaphore(0)
        count = max(int(calls_per_second * seconds), 1)
        due = time.perf_counter()
        for number in range(count):
            due += float(random.exponential(1 / calls_per_second))
            time.sleep(max(0.0, due - time.perf_counter()))
            answer = self._call.future(self._requests[number % len(self._requests)], timeout=60.0)
            answer.add_done_callback(_ended(due, taken, left))
        for _ in range(count):
            left.acquire()
        return np.array(taken)


def _ended(
    due: float, taken: list[float], left: threading.Semaphore
) -> Callable[["grpc.Future[bytes]"], None]:
    def ended(answer: "grpc.Future[bytes]") -> None:
        taken.append(time.perf_counter() - due if answer.exception() is None else np.inf)
        left.release()

    return ended


def per_event(loop: Callable[[float, int], int], loops: int, seconds: float, events: int) -> float:
    """Seconds per event of so many loops at once, each of which is told when to end and where to
    begin, and answers how often it went round."""
    began = time.perf_counter()
    with ThreadPoolExecutor(loops) as threads:
        ran = list(threads.map(loop, [began + seconds] * loops, range(0, loops * 7, 7)))
    return (time.perf_counter() - began) / (sum(ran) * events)


def row_by_row(inputs: Features) -> Features:
    """The same events, each with a user of its own."""
    user_row = inputs["user_row"]
    users = {spec.name: inputs[spec.name][user_row] for spec in USER_FEATURES}
    events = {spec.name: inputs[spec.name] for spec in EVENT_FEATURES}
    own = np.arange(len(user_row), dtype=np.int32)
    return {**users, **events, "items": inputs["items"], "user_row": own}


def report(rounds: int, seconds: float, *, with_triton: bool) -> BenchReport:
    """One run."""
    data = RankData(now=int(time.time()))
    with bench_database() as database, ExitStack() as stack:
        data.store(database)
        service = stack.enter_context(service_process("ranker", database))
        triton = None
        if with_triton:
            triton = stack.enter_context(behind_triton(data, database, service, seconds))
        return measured(data, database, service, triton, rounds, seconds)


@contextmanager
def behind_triton(
    data: RankData, database: BenchDatabase, service: ServiceProcess, seconds: float
) -> Iterator[ServiceProcess]:
    """Another ranker on the database, whose model runs in a Triton server of its own."""
    for users, events, in_flight in SIZES.values():
        sent = [data.request(n, users, events).SerializeToString() for n in range(CALLS)]
        Called(service, sent, in_flight).seconds_per_event(users * events, seconds)
    model = next(RankerSettings().model_dir.glob(f"*/{MODEL_FILE}")).parent
    with tempfile.TemporaryDirectory(prefix="heliograph-bench-") as name:
        folder, traffic = Path(name), Path(name) / "metrics"
        traffic.write_text(service.metrics())
        sizes = choose(read_traffic([traffic]), MOST_BUCKETS)
        cores = len(os.sched_getaffinity(0))
        render(model, folder / "repository", instances=cores, threads=1, sizes=sizes)
        address, command = triton_command(folder / "repository", folder)
        told = {
            "HELIOGRAPH_RANKER_BACKEND": "triton",
            "HELIOGRAPH_RANKER_TRITON_ADDRESS": address,
            "HELIOGRAPH_RANKER_PARALLEL_RUNS": str(cores),
        }
        with process(command, os.environ, folder), service_process("ranker", database, told) as own:
            yield own


def measured(
    data: RankData,
    database: BenchDatabase,
    service: ServiceProcess,
    triton: ServiceProcess | None,
    rounds: int,
    seconds: float,
) -> BenchReport:
    """All figures; those of `triton` where it is there."""
    contenders: dict[str, Callable[[int], float]] = {}
    called: dict[str, Called] = {}
    for name, (users, events, in_flight) in SIZES.items():
        requests = [data.request(number, users, events) for number in range(CALLS)]
        prepared = [data.inputs([request]) for request in requests]
        bare = Bare(prepared, users * events)
        contenders[f"bare_{name}"] = bare.turn(seconds)
        alone = Bare([row_by_row(inputs) for inputs in prepared[:8]], users * events)
        contenders[f"rows_{name}"] = alone.turn(seconds)
        sent = [request.SerializeToString() for request in requests]
        rank = called[name] = Called(service, sent, in_flight)
        contenders[f"rank_{name}"] = rank.turn(users * events, seconds)
        if triton is not None:
            behind = Called(triton, sent, in_flight)
            contenders[f"triton_{name}"] = behind.turn(users * events, seconds)
    users, events, in_flight = SIZES["small"]
    empty = Called(service, [b""], in_flight, EMPTY_METHOD)
    contenders["empty"] = empty.turn(users * events, seconds)
    taken = in_turns(contenders, rounds)
    metrics: dict[str, Metric] = {}
    for name in SIZES:
        goal = RANK_GOAL if name == "batch" else 1.0
        metrics[f"{name}_over_bare"] = ratio_metric(
            taken[f"rank_{name}"], taken[f"bare_{name}"], goal
        )
        if triton is not None:
            goal = TRITON_GOAL if name == "batch" else 1.0
            metrics[f"{name}_triton_over_bare"] = ratio_metric(
                taken[f"triton_{name}"], taken[f"bare_{name}"], goal
            )
        metrics[f"{name}_user_once_over_rows"] = ratio_metric(
            taken[f"bare_{name}"], taken[f"rows_{name}"], ROW_GOAL
        )
    metrics["empty_calls_over_bare_small"] = ratio_metric(taken["empty"], taken["bare_small"], 1.0)
    series: dict[str, Any] = {
        "events_per_second": {name: float(1 / np.median(each)) for name, each in taken.items()},
        "latency_ms": {
            name: _latencies(rank, float(np.median(taken[f"rank_{name}"])), SIZES[name], seconds)
            for name, rank in called.items()
        },
        "processor_microseconds_per_event": {
            name: _processor_time(database, service, rank, SIZES[name], seconds)
            for name, rank in called.items()
        },
        "microseconds_per_event": _by_count(data, service, seconds),
        "service_memory": service.memory(),
    }
    return BenchReport("ranker", metrics, series, PACKAGES)


def _latencies(
    rank: Called, per_event: float, size: tuple[int, int, int], seconds: float
) -> dict[str, dict[str, float]]:
    """Milliseconds at some shares of the load that saturates."""
    most = 1 / (per_event * size[0] * size[1])
    found = {}
    for share in LOADS:
        taken = rank.latency(share * most, 3 * seconds)
        found[f"{share:.0%}"] = {
            "p50": round(float(np.quantile(taken, 0.5)) * 1e3, 2),
            "p99": round(float(np.quantile(taken, 0.99)) * 1e3, 2),
        }
    return found


def _processor_time(
    database: BenchDatabase,
    service: ServiceProcess,
    rank: Called,
    size: tuple[int, int, int],
    seconds: float,
) -> dict[str, float]:
    """What service (the model's runs with it), Postgres and the bench's own calls take of the
    processors."""
    clocks = {
        "service": service.cpu_seconds,
        "postgres": database.cpu_seconds,
        "calls": time.process_time,
    }
    before = {name: clock() for name, clock in clocks.items()}
    began = time.perf_counter()
    per_event = rank.seconds_per_event(size[0] * size[1], 2 * seconds)
    events = (time.perf_counter() - began) / per_event
    return {
        name: round((clock() - before[name]) / events * 1e6, 1) for name, clock in clocks.items()
    }


def _by_count(data: RankData, service: ServiceProcess, seconds: float) -> dict[str, float]:
    """Of calls about one user, one after the other, by their number of events."""
    found = {}
    for count in COUNTS:
        sent = [data.request(number, 1, count).SerializeToString() for number in range(CALLS)]
        taken = Called(service, sent, 1).seconds_per_event(count, seconds)
        found[str(count)] = round(taken * 1e6, 1)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.ranker", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a contender in a round")
    parser.add_argument("--triton", action="store_true", help="Rank with Triton as well")
    given = parser.parse_args(arguments)
    found = report(given.rounds, given.seconds, with_triton=given.triton)
    for name in (
        "events_per_second", "latency_ms", "processor_microseconds_per_event",
        "microseconds_per_event",
    ):  # fmt: skip
        print(name, found.series[name])
    found.print()
    found.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
