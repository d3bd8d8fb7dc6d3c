"""`python -m bench.ranker_peers --json OUT`: Rank beside servers of models that others made.

All serve the same ONNX file. Rank runs as in `bench.ranker`: a service on an embedded Postgres,
which reads states and items, makes features, scores and stores the features used. The peers only
score: a call brings them the prepared inputs of the model as compact bytes, and their own batching
merges calls, users and events one after the other. BentoML, LitServe, MLServer and Ray Serve run in
environments of their own, made on first use, with our NumPy and ONNX Runtime and as many threads;
Triton is called directly, with our model code and its NumPy 1.26. Client and servers share all
cores that the bench has. Empty calls of our service, made in the same way, tell what calls cost in
themselves: what a server without any work would score, were there events in them.

For each size of call, each peer is tried shortly with its settings, and keeps the fastest. Then all
take turns of some seconds, in an order drawn anew each round, after one that doesn't count. Ratios
are of the medians over the rounds. A peer whose scores differ from ONNX Runtime's is an error; one
that can't be installed or started is named with the reason.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bench.interleaved import Seconds, in_turns, ratio
from bench.peer_calls import FAILURES, Client
from bench.peer_servers import PEERS, TRITON, Peer, PeerMissing, Running, serving, version_of
from bench.peers.scoring import Setting
from bench.rank_data import RankData
from bench.ranker import CALLS, EMPTY_METHOD, PACKAGES, SIZES, Called, per_event
from bench.report import ROOT, BenchReport, Metric
from bench.service_process import ServiceProcess, bench_database, service_process
from services.ranker.features import HEADS, Features
from services.ranker.manifest import MODEL_FILE
from services.ranker.settings import RankerSettings
from services.ranker.triton_model.sessions import CPU, session_options

OURS, EMPTY = "rank", "empty"
START_SECONDS = 120.0
SAME = 1e-4
"""Largest difference of a peer's scores."""
GOALS: Mapping[str, float] = {"batch": 1.0, "small": 3.0}
"""Events a second through Rank over those of the best Python server, by size of call."""
TRITON_GOAL = 1.0


@dataclass(frozen=True)
class Size:
    """One size of call: the calls, and the scores of the first."""

    events: int
    in_flight: int
    inputs: Sequence[Features]
    expected: NDArray[np.float32]


class Peered:
    """A peer that runs."""

    def __init__(self, client: Client, size: Size) -> None:
        self._client = client
        self._size = size
        self._requests = [client.request(inputs) for inputs in size.inputs]

    def await_right(self, running: Running) -> None:
        """Until it answers, rightly. Raises PeerMissing, and AssertionError for other scores."""
        ends = time.monotonic() + START_SECONDS
        while True:
            try:
                with self._client.connected() as call:
                    scores = self._client.scores(call(self._requests[0]), len(HEADS))
                break
            except FAILURES as error:
                if running.has_ended or time.monotonic() > ends:
                    raise PeerMissing(f"no answer: {error}\n{running.last_words()}") from error
                time.sleep(0.25)
        np.testing.assert_allclose(scores, self._size.expected, atol=SAME, rtol=0)

    def seconds_per_event(self, seconds: float) -> float:
        """Through all calls in flight."""

        def loop(ends: float, first: int) -> int:
            calls = 0
            with self._client.connected() as call:
                while time.perf_counter() < ends:
                    call(self._requests[(first + calls) % len(self._requests)])
                    calls += 1
            return calls

        return per_event(loop, self._size.in_flight, seconds, self._size.events)

    def turn(self, seconds: float) -> Callable[[int], float]:
        """The same, as a contender."""
        return lambda _: self.seconds_per_event(seconds)


@dataclass(frozen=True)
class Plan:
    """How long to measure, and where environments are."""

    rounds: int
    seconds: float
    environments: Path
    model: Path


@dataclass
class Found:
    """Of one size: seconds per event, and what the peers' settings did."""

    taken: dict[str, Seconds]
    tried: dict[str, list[dict[str, Any]]]
    missing: dict[str, str]


def report(plan: Plan, peers: Sequence[Peer]) -> BenchReport:
    """One run."""
    data = RankData(now=int(time.time()))
    with bench_database() as database:
        data.store(database)
        with service_process("ranker", database) as service:
            found = {name: _of_size(name, data, service, plan, peers) for name in SIZES}
    metrics: dict[str, Metric] = {}
    for name, of_size in found.items():
        metrics |= _metrics(name, of_size.taken)
    series = {
        "events_per_second": {
            name: {who: float(1 / np.median(taken)) for who, taken in each.taken.items()}
            for name, each in found.items()
        },
        "tried": {name: each.tried for name, each in found.items()},
        "missing": {name: each.missing for name, each in found.items()},
        "versions_of_peers": {peer.name: version_of(peer) for peer in peers},
    }
    return BenchReport("ranker_peers", metrics, series, PACKAGES)


def _of_size(
    name: str, data: RankData, service: ServiceProcess, plan: Plan, peers: Sequence[Peer]
) -> Found:
    users, events, in_flight = SIZES[name]
    requests = [data.request(number, users, events) for number in range(CALLS)]
    inputs = [data.inputs([request]) for request in requests]
    size = Size(users * events, in_flight, inputs, _scores(plan.model, inputs[0]))
    rank = Called(service, [each.SerializeToString() for each in requests], in_flight)
    empty = Called(service, [b""], in_flight, EMPTY_METHOD)
    found = Found({}, {}, {})
    with ExitStack() as stack:
        contenders: dict[str, Callable[[int], float]] = {
            OURS: rank.turn(size.events, plan.seconds),
            EMPTY: empty.turn(size.events, plan.seconds),
        }
        for peer in peers:
            try:
                best = _fastest(peer, size, plan, found)
                contenders[peer.name] = _start(stack, peer, best, size, plan).turn(plan.seconds)
            except PeerMissing as error:
                found.missing[peer.name] = str(error)
                print(f"without {peer.name}: {error}", flush=True)
        found.taken = in_turns(contenders, plan.rounds)
    return found


def _scores(model: Path, inputs: Features) -> NDArray[np.float32]:
    """By ONNX Runtime alone."""
    session = ort.InferenceSession(
        (model / MODEL_FILE).read_bytes(), session_options(1), providers=[CPU]
    )
    read = {each.name: inputs[each.name] for each in session.get_inputs()}
    scores: NDArray[np.float32] = session.run(["scores"], read)[0]
    return scores


def _fastest(peer: Peer, size: Size, plan: Plan, found: Found) -> Setting:
    """The setting that took least; all are kept in `found`. Raises PeerMissing."""
    taken = {}
    for setting in peer.settings:
        with ExitStack() as stack:
            peered = _start(stack, peer, setting, size, plan)
            peered.seconds_per_event(plan.seconds / 2)  # warms
            taken[setting] = peered.seconds_per_event(plan.seconds)
        rate = {"events_per_second": round(1 / taken[setting])}
        found.tried.setdefault(peer.name, []).append(asdict(setting) | rate)
        print(f"{peer.name} {setting}: {1 / taken[setting]:,.0f} events a second", flush=True)
    return min(taken, key=lambda setting: taken[setting])


def _start(stack: ExitStack, peer: Peer, setting: Setting, size: Size, plan: Plan) -> Peered:
    client, running = stack.enter_context(serving(peer, setting, plan.model, plan.environments))
    peered = Peered(client, size)
    peered.await_right(running)
    return peered


def _metrics(size: str, taken: Mapping[str, Seconds]) -> dict[str, Metric]:
    """Rank over each peer, and over the best of the Python servers."""
    servers = [name for name in taken if name not in (OURS, EMPTY, TRITON)]
    metrics = {
        f"{size}_over_{name}": _times(taken[name], taken[OURS], GOALS[size]) for name in servers
    }
    if servers:
        best = min(servers, key=lambda name: float(np.median(taken[name])))
        metrics[f"{size}_over_best_server"] = metrics[f"{size}_over_{best}"]
    if TRITON in taken:
        metrics[f"{size}_over_triton"] = _times(taken[TRITON], taken[OURS], TRITON_GOAL)
    return metrics


def _times(theirs: Seconds, ours: Seconds, goal: float) -> Metric:
    value, interval = ratio(theirs, ours)
    return Metric(value, "× the events a second", goal, "higher", interval)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(prog="python -m bench.ranker_peers", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a contender in a round")
    parser.add_argument("--peers", nargs="*", choices=names, default=names)
    parser.add_argument(
        "--environments", type=Path, default=ROOT / "out" / "peers", help="where peers are kept"
    )
    given = parser.parse_args(arguments)
    model = next(RankerSettings().model_dir.glob(f"*/{MODEL_FILE}")).parent
    plan = Plan(given.rounds, given.seconds, given.environments.resolve(), model)
    found = report(plan, [peer for peer in PEERS if peer.name in given.peers])
    print("events a second", found.series["events_per_second"])
    found.print()
    found.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
