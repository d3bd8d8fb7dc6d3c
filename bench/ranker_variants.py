"""`python -m bench.ranker_variants --json OUT`: the bundled model in other forms, on the CPU.

Rows are those of the bootstrap log, made where it isn't there: users and events of its validation
part, which the bundled model didn't learn from, crossed into calls; what int8 calibrates with is of
its training part. Compared are: each user once and row by row; the transformers in half precision;
int8 weights alone, and static int8 (norms, embeddings and heads in float in all of them); one graph
and two, with the users' part computed and kept; and threads within a run and beside each other.
Logits are compared and log loss is measured for trained heads. A variant is worth keeping when it
takes less time and loses nothing: `series.kept` says so.

All contenders take turns in one run; times are of ONNX Runtime alone, of one thread unless said
otherwise, without what finds and gathers kept users.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from bench.interleaved import Seconds, interleaved, ratio, ratio_metric
from bench.model_variants import in_two, static, weight_only, with_items_of_events
from bench.ranker import ROW_GOAL, row_by_row
from bench.report import ROOT, BenchReport, Metric
from deploy.triton.render import bucket, model_inputs_of
from services.ranker.features import HEADS, Features, model_inputs, rows
from services.ranker.features.schema import STEPS
from services.ranker.features.vocabulary import Channel
from services.ranker.golden import PARITY
from services.ranker.manifest import HALF_MODEL_FILE, MODEL_FILE, Manifest, read_manifest
from services.ranker.settings import RankerSettings
from services.ranker.training.half import halved
from services.ranker.training.log import MASKED, Examples, LogContents, read_log
from services.ranker.training.logistic import log_losses, sigmoid
from services.ranker.training.split import split
from services.ranker.triton_model.sessions import CPU, BucketSession, Device, session_options
from simulation.bootstrap import BootstrapOptions, make_log
from simulation.download import load

PACKAGES = ("numpy", "onnx", "onnxruntime")
SIZES: Mapping[str, tuple[int, int, int]] = {"1x20": (1, 20, 64), "32x20": (32, 20, 6)}
"""Users, events of each, and calls of a turn."""
LARGE: Mapping[str, tuple[int, int, int]] = {"32x100": (32, 100, 2)}
"""For the two graphs besides."""
ALL_SIZES = {**SIZES, **LARGE}
CROSSED = 8
"""Calls of 32 users whose logits are compared."""
BATCH_ROWS = 128
CALIBRATION_ROWS = 512
SAME = {"float": PARITY[MODEL_FILE], "half": PARITY[HALF_MODEL_FILE]}
"""Largest difference of logits between each user once and row by row."""
LOSS_GOAL = 1.001
"""Log loss over that in float."""
OWN = (RankerSettings().intra_op_threads, RankerSettings().parallel_runs)
THREADS = (OWN, *(each for each in product((1, 2), repeat=2) if each != OWN))
"""Within a run, and runs beside each other; the ranker's own first."""
THREADS_GOAL = 0.95
"""Time of others over that of its own."""

Answers = NDArray[np.float64]
"""Logits of trained heads [N, trained]."""
Contender = Callable[[int], object]


@dataclass(frozen=True)
class Judged:
    """Rows of the log."""

    examples: Examples
    contents: LogContents
    manifest: Manifest

    def batches(self, index: NDArray[np.int64]) -> Iterator[Features]:
        """Rows, each with a user of its own."""
        for start in range(0, len(index), BATCH_ROWS):
            yield self.examples.inputs(index[start : start + BATCH_ROWS], self.contents)

    def call(self, seed: int, users: int, events: int) -> Features:
        """Users and events of the validation part, drawn evenly: so many events of each user."""
        random = np.random.default_rng((1, seed))
        part = split(self.examples).validation
        sent = part[self.examples.channel[part] != Channel.NONE]
        return model_inputs(
            rows(self.examples.users, random.choice(part, users, replace=False)),
            rows(self.examples.events, random.choice(sent, users * events)),
            np.repeat(np.arange(users), events),
            self.contents,
        )

    @property
    def heads(self) -> list[int]:
        """Columns of trained heads."""
        return [HEADS.index(head) for head in self.manifest.trained_heads]

    def logits(self, session: ort.InferenceSession, batches: Sequence[Features]) -> Answers:
        """Of all batches."""
        found = [_run(session, batch, ["logits"])[0] for batch in batches]
        return np.concatenate(found)[:, self.heads].astype(np.float64)

    def log_loss(self, logits: Answers, index: NDArray[np.int64]) -> dict[str, float]:
        """Of each trained head over its labelled rows, weighted as the log says."""
        found = {}
        for column, head in enumerate(self.manifest.trained_heads):
            labels = self.examples.labels[index, HEADS.index(head)]
            known = labels != MASKED
            losses = log_losses(labels[known].astype(np.float64), sigmoid(logits[known, column]))
            weights = self.examples.weights[index][known]
            found[head.name.lower()] = float(np.average(losses, weights=weights))
        return found


def report(folder: Path, log: Path, rounds: int) -> BenchReport:
    """One run."""
    examples, contents = read_log([log])
    judged = Judged(examples, contents, read_manifest(folder))
    model = onnx.load(folder / MODEL_FILE)
    calibration = split(examples).train[:CALIBRATION_ROWS]
    models = {
        "float": model,
        "half": halved(model),
        "int8_weights": weight_only(model),
        "int8_static": static(model, judged.batches(calibration)),
    }
    sessions = {name: _open(each) for name, each in models.items()}
    metrics, series = _user_once(judged, folder, models, sessions)
    answers, differences = _answers(judged, sessions)
    times = interleaved(_contenders(judged, model, sessions), rounds)
    timed = _times(times)
    kept = {name: _is_kept(name, times, answers) for name in sessions if name != "float"}
    series |= {
        "differences": differences,
        "microseconds_per_event": _per_event(times),
        "kept": kept,
        "rows": len(split(examples).validation),
        "steps": judged.call(0, 32, 20)["send_kinds"].shape[1],
    }
    return BenchReport("ranker_variants", metrics | answers | timed, series, PACKAGES)


def _user_once(
    judged: Judged,
    folder: Path,
    models: Mapping[str, onnx.ModelProto],
    sessions: Mapping[str, ort.InferenceSession],
) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Each user once against row by row: in free shapes, and in one bucket."""
    once = [judged.call(seed, 32, 20) for seed in range(CROSSED)]
    alone = [row_by_row(call) for call in once]
    metrics, means = {}, {}
    for name, most in SAME.items():
        apart = np.abs(judged.logits(sessions[name], once) - judged.logits(sessions[name], alone))
        metrics[f"user_once_{name}"] = Metric(float(apart.max()), "|Δlogit|", most, "lower")
        means[name] = float(apart.mean())
    inputs = model_inputs_of(folder / MODEL_FILE)
    size = bucket(640, 640, STEPS)
    run = BucketSession(
        models["float"].SerializeToString(), inputs, len(HEADS), size, Device(CPU), 1
    ).run
    calls = (once[0], alone[0], _first_user(once[0]))
    whole, apart, first = (run(call)["logits"] for call in calls)
    equal = np.concatenate([(whole == apart).all(1), (whole[: len(first)] == first).all(1)])
    metrics["same_bits_in_a_bucket"] = Metric(float(equal.mean()), "share of rows", 1, "higher")
    return metrics, {"user_once_mean": means, "crossed_rows": sum(len(c["user_row"]) for c in once)}


def _first_user(call: Features) -> Features:
    """The call's first user alone, with the events of that user."""
    own = call["user_row"] == 0
    of_events = {"event_type", "event_source", "event_items", "event_numbers", "user_row"}
    return {
        name: array if name == "items" else array[own] if name in of_events else array[:1]
        for name, array in call.items()
    }


def _answers(
    judged: Judged, sessions: Mapping[str, ort.InferenceSession]
) -> tuple[dict[str, Metric], dict[str, Any]]:
    """How far each variant's logits and log loss are from those in float."""
    index = split(judged.examples).validation
    batches = list(judged.batches(index))
    exact = judged.logits(sessions["float"], batches)
    losses = judged.log_loss(exact, index)
    metrics: dict[str, Metric] = {}
    series: dict[str, Any] = {"log_loss_float": losses}
    for name, session in sessions.items():
        if name == "float":
            continue
        logits = judged.logits(session, batches)
        apart = np.abs(logits - exact)
        metrics[f"{name}_difference"] = Metric(
            float(apart.max()), "|Δlogit|", SAME["half"], "lower"
        )
        series[f"{name}_mean"] = float(apart.mean())
        for head, loss in judged.log_loss(logits, index).items():
            metrics[f"{name}_loss_{head}"] = Metric(
                loss / losses[head], "× the log loss", LOSS_GOAL, "lower"
            )
    return metrics, series


def _contenders(
    judged: Judged, model: onnx.ModelProto, sessions: Mapping[str, ort.InferenceSession]
) -> dict[str, Contender]:
    """What is timed, as NAME_SIZE."""
    contenders: dict[str, Contender] = {}
    parts = in_two(model)
    users, rest = _open(parts.users), _open(parts.rest)
    by_threads = {threads: _open(model, threads) for threads, _ in THREADS}
    for size, (count, events, calls) in ALL_SIZES.items():
        once = [judged.call(seed, count, events) for seed in range(calls)]
        kept = [
            with_items_of_events(call)
            | dict(zip(parts.passed, _run(users, call, parts.passed), strict=True))
            for call in once
        ]
        contenders[f"float_{size}"] = _each(sessions["float"], once)
        contenders[f"two_graphs_{size}"] = partial(_both, users, rest, parts.passed, once)
        contenders[f"users_kept_{size}"] = _each(rest, kept)
        if size in LARGE:
            continue
        contenders[f"rows_{size}"] = _each(sessions["float"], [row_by_row(call) for call in once])
        for name, session in sessions.items():
            if name != "float":
                contenders[f"{name}_{size}"] = _each(session, once)
        for threads, runs in THREADS:
            contenders[f"threads_{threads}x{runs}_{size}"] = partial(
                _at_once, ThreadPoolExecutor(runs), by_threads[threads], once
            )
    return contenders


def _each(session: ort.InferenceSession, calls: Sequence[Features]) -> Contender:
    return lambda _: [_run(session, call, ["scores"]) for call in calls]


def _both(
    users: ort.InferenceSession,
    rest: ort.InferenceSession,
    passed: Sequence[str],
    calls: Sequence[Features],
    _: int,
) -> None:
    """Two graphs one after the other."""
    for call in calls:
        between = dict(zip(passed, _run(users, call, passed), strict=True))
        _run(rest, call | between, ["scores"])


def _at_once(
    pool: ThreadPoolExecutor, session: ort.InferenceSession, calls: Sequence[Features], _: int
) -> None:
    list(pool.map(lambda call: _run(session, call, ["scores"]), calls))


def _times(times: Mapping[str, Seconds]) -> dict[str, Metric]:
    """The ratios of times."""
    metrics: dict[str, Metric] = {}
    for size in ALL_SIZES:
        one = times[f"float_{size}"]
        for name in ("two_graphs", "users_kept"):
            metrics[f"{name}_{size}"] = ratio_metric(times[f"{name}_{size}"], one, 1.0)
        if size in LARGE:
            continue
        metrics[f"user_once_over_rows_{size}"] = ratio_metric(one, times[f"rows_{size}"], ROW_GOAL)
        for name in ("half", "int8_weights", "int8_static"):
            metrics[f"{name}_{size}"] = ratio_metric(times[f"{name}_{size}"], one, 1.0)
        own, *others = (f"threads_{threads}x{runs}_{size}" for threads, runs in THREADS)
        for other in others:
            metrics[other] = ratio_metric(times[other], times[own], THREADS_GOAL, "higher")
    return metrics


def _is_kept(name: str, times: Mapping[str, Seconds], answers: Mapping[str, Metric]) -> bool:
    """It is faster at each size, surely, and its log loss is that of float."""
    faster = all(ratio(times[f"{name}_{size}"], times[f"float_{size}"])[1][1] < 1 for size in SIZES)
    return faster and all(
        metric.met for key, metric in answers.items() if key.startswith(f"{name}_loss_")
    )


def _per_event(times: Mapping[str, Seconds]) -> dict[str, float]:
    found = {}
    for name, seconds in times.items():
        users, events, calls = ALL_SIZES[name.rpartition("_")[2]]
        found[name] = round(float(np.median(seconds)) / (users * events * calls) * 1e6, 2)
    return found


def _open(model: onnx.ModelProto, threads: int = 1) -> ort.InferenceSession:
    return ort.InferenceSession(
        model.SerializeToString(), session_options(threads), providers=[CPU]
    )


def _run(
    session: ort.InferenceSession, inputs: Features, outputs: Sequence[str]
) -> list[NDArray[Any]]:
    found: list[NDArray[Any]] = session.run(
        list(outputs), {each.name: inputs[each.name] for each in session.get_inputs()}
    )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.ranker_variants", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument(
        "--log",
        type=Path,
        default=ROOT / "out" / "bootstrap.parquet",
        help="the bootstrap log; made where it isn't there",
    )
    given = parser.parse_args(arguments)
    if not given.log.is_file():
        given.log.parent.mkdir(parents=True, exist_ok=True)
        make_log(load(), given.log, BootstrapOptions(), show=sys.stderr.isatty())
    folder = next(RankerSettings().model_dir.glob(f"*/{MODEL_FILE}")).parent
    found = report(folder, given.log, given.rounds)
    for name in ("microseconds_per_event", "differences", "kept"):
        print(name, found.series[name])
    found.print()
    found.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
