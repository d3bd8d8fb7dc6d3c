"""`python -m bench.ranker_quality --json OUT`: the ranking model beside rivals.

*The known world.* All learn from one log of the base world, where every decision is kept: the
ranking model, LightGBM on flattened features, a DLRM-like and a SASRec-like net, each with as many
settings, chosen by the loss on the log's tuning users; for LightGBM head by head. They are judged
on logs of other users, from whom nobody learned: another seed of the base world, which is the
headline, and altered worlds. The items are the same, and their history over all users goes on from
where the log to learn from ended, as it does for a model that is put to use.

The world knows the true probability p of each label, so a prediction q is judged by its expected
log loss beyond the Bayes entropy, the Kullback-Leibler divergence of p and q, which doesn't depend
on the labels that happened to be drawn. `gap_closed` of a head is the share of the best rival's
divergence that the ranking model is without; the best rival is the one with the least on the same
rows. Intervals redraw users. Ablations are judged alike, against the whole model. All have the same
features. Each rival stands there a second time, `helped` by the numbers that the ranking model
derives from them within its graph; the best of these is compared with apart.

*MovieLens.* All learn from the bootstrap log of two thirds of its users, with the settings chosen
above, LightGBM again head by head, and are judged on the others by log loss, over that of the best
rival on the same rows: which of the films sent a user opens follows from the ratings.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from bench.ranker_boosting import boosted, table
from bench.ranker_rivals import DlrmLike, SasrecLike
from bench.report import BenchReport, Metric
from services.ranker.features.items import Contents
from services.ranker.features.schema import SEQUENCES, USER_FEATURES
from services.ranker.features.vocabulary import HEADS, Head, stable_key
from services.ranker.training.evaluation import evaluate
from services.ranker.training.fit import TrainingConfig, predict, train
from services.ranker.training.log import MASKED, Examples, LogContents, LogWriter, read_log
from services.ranker.training.logistic import log_losses, sigmoid
from services.ranker.training.model import ModelConfig, RankingModel
from services.ranker.training.multitask import MultiTaskModel
from services.ranker.training.split import split

PACKAGES = ("lightgbm", "numpy", "torch")
ENGAGEMENT = (Head.PUSH_OPEN, Head.EMAIL_CLICK, Head.INAPP_CLICK)
GOAL = 0.25
"""Of the best rival's gap, on engagement heads; none of the others may be worse."""
TRAINED_ON = ("base", 1)
JUDGED_ON = (("base", 2), ("tired", 2), ("flat", 2), ("nocturnal", 2))
"""Worlds and seeds; the first is the headline."""
WORLD, MOVIELENS = "world", "movielens"
JUDGED = {WORLD: [f"judged{place}" for place in range(len(JUDGED_ON))], MOVIELENS: ["held_out"]}
"""By log to learn from, those to be judged on."""
HELD_OUT = 3
"""One user of the bootstrap log in this many, by hash."""
LEAST_POSITIVES = 50
"""Of a head among those users, to say anything of it."""
NETS: Mapping[str, Callable[[ModelConfig], MultiTaskModel]] = {
    "heliograph": RankingModel,
    "dlrm": DlrmLike,
    "sasrec": SasrecLike,
    "helped_dlrm": partial(DlrmLike, helped=True),
    "helped_sasrec": partial(SasrecLike, helped=True),
}
TREES = ("lightgbm", "helped_lightgbm")
NAMES = (*NETS, *TREES)
RIVALS = (("dlrm", "sasrec", "lightgbm"), ("helped_dlrm", "helped_sasrec", "helped_lightgbm"))
"""The best of each kind is compared with."""
NET_SETTINGS: Sequence[Mapping[str, float]] = (
    {"learning_rate": 1e-3, "dropout": 0.1},
    {"learning_rate": 2e-3, "dropout": 0.3},
    {"learning_rate": 1e-3, "dropout": 0.3},
    {"learning_rate": 2e-3, "dropout": 0.1},
)
TREE_SETTINGS: Sequence[Mapping[str, float]] = (
    {"num_leaves": 7, "min_data_in_leaf": 20},
    {"num_leaves": 31, "min_data_in_leaf": 100},
    {"num_leaves": 7, "min_data_in_leaf": 100},
    {"num_leaves": 31, "min_data_in_leaf": 20},
)


def _only(head: Head) -> str:
    return f"only_{head.name.lower()}"


ABLATIONS = (
    "without_sequences",
    "without_mixer",
    *(_only(head) for head in (*ENGAGEMENT, Head.SESSION_1D)),
)
REDRAWS = 1000
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Job:
    """One training."""

    name: str
    setting: int
    log: str = WORLD


@dataclass(frozen=True, eq=False, slots=True)
class Done:
    """What came of it."""

    losses: Scores
    """Tuning loss by head, NaN where the head wasn't trained."""
    scores: Sequence[Scores]
    """On each judged log [n, heads]."""


@dataclass(frozen=True, eq=False, slots=True)
class Judged:
    """A log that models are judged on."""

    examples: Examples
    truth: Scores
    """[n, heads]; NaN where there is none."""
    users: NDArray[np.int64]
    """Number of each row's user."""


def make_logs(folder: Path, users: int, judged_users: int, days: int) -> None:
    """The logs to learn from, and those to be judged on, where it is known with the truth."""
    history = str(folder / "history.parquet")

    def make(name: str, world: str, seed: int, count: int, *more: str) -> None:
        command = [sys.executable, "-m", "simulation.known_world", "--everything", *more]
        command += ["--users", str(count), "--days", str(days)]
        command += ["--seed", str(seed), "--world", world]
        command += ["--out", str(folder / f"{name}.parquet")]
        command += ["--truth", str(folder / f"{name}.truth.parquet")]
        subprocess.run(command, check=True, stdout=sys.stderr)

    make(WORLD, *TRAINED_ON, users, "--history-after", history)
    for name, each in zip(JUDGED[WORLD], JUDGED_ON, strict=True):
        make(name, *each, judged_users, "--history-before", history)
    bootstrap = folder / "bootstrap.parquet"
    command = [sys.executable, "-m", "simulation.bootstrap", "--out", str(bootstrap)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    examples, contents = read_log([bootstrap])
    apart = np.array([stable_key("held out", user) % HELD_OUT == 0 for user in examples.user_id])
    for name, rows in ((MOVIELENS, ~apart), (JUDGED[MOVIELENS][0], apart)):
        with LogWriter(folder / f"{name}.parquet", contents) as log:
            log.write(examples.take(np.flatnonzero(rows)))


@lru_cache(maxsize=1)
def _read(path: Path) -> tuple[Examples, LogContents]:
    return read_log([path])


def judged(folder: Path, log: str) -> Judged:
    """Rows with their truth, in the log's order."""
    examples, _ = read_log([folder / f"{log}.parquet"])
    columns = pq.read_table(folder / f"{log}.truth.parquet")
    at = {name: row for row, name in enumerate(columns["decision_id"].to_pylist())}
    rows = [at[name] for name in examples.decision_id]
    heads = [columns[head.name.lower()].to_numpy() for head in HEADS]
    _, users = np.unique(np.array(examples.user_id), return_inverse=True)
    return Judged(examples, np.stack(heads, axis=1)[rows].astype(np.float64), users)


def run(job: Job, folder: Path, epochs: int) -> Done:
    """Train, and score all judged logs."""
    torch.set_num_threads(1)
    examples, contents = _read(folder / f"{job.log}.parquet")
    if job.name in TREES:
        helped = job.name != "lightgbm"
        asked = []
        for log in JUDGED[job.log]:
            rows, items = read_log([folder / f"{log}.parquet"])
            asked.append(table(rows, items, np.arange(len(rows)), helped=helped))
        setting = TREE_SETTINGS[job.setting]
        found = boosted(examples, contents, split(examples), asked, setting, helped=helped)
        return Done(found.losses, found.scores)
    setting = NET_SETTINGS[job.setting]
    config = TrainingConfig(epochs=epochs, learning_rate=setting["learning_rate"])
    model = replace(config.model, dropout=setting["dropout"])
    if job.name == "without_mixer":
        model = replace(model, mixer_layers=0)
    trained = train(
        _changed(examples, job.name),
        contents,
        replace(config, model=model),
        build=NETS.get(job.name, RankingModel),
    )
    net, constants = trained.model, trained.model.constants.numpy()
    ready = trained.model.trained.numpy()

    def scores(rows: Examples, items: Contents, part: NDArray[np.int64]) -> Scores:
        return np.where(ready, sigmoid(predict(net, rows, items, part)), constants)

    part = trained.split.tuning
    tuning = scores(trained.examples, contents, part)
    labels = trained.examples.labels[part]
    known = labels != MASKED
    losses = log_losses(labels.astype(np.float64), tuning)
    with np.errstate(invalid="ignore"):
        by_head = np.where(known, losses, 0).sum(0) / known.sum(0)
    given = []
    for log in JUDGED[job.log]:
        rows, items = read_log([folder / f"{log}.parquet"])
        rows = _changed(rows, job.name)
        given.append(scores(rows, items, np.arange(len(rows))))
    return Done(np.where(ready, by_head, np.nan), given)


def _changed(examples: Examples, name: str) -> Examples:
    """The rows as an ablation has them."""
    if name == "without_sequences":
        ours = [spec.name for spec in USER_FEATURES if spec.name.startswith(SEQUENCES)]
        empty = {each: np.zeros_like(examples.users[each]) for each in ours}
        return replace(examples, users=examples.users | empty)
    for column, head in enumerate(HEADS):
        if name == _only(head):
            labels = np.full_like(examples.labels, MASKED)
            labels[:, column] = examples.labels[:, column]
            return replace(examples, labels=labels)
    return examples


def _setting(done: Mapping[Job, Done], name: str) -> int:
    """The setting of a net that was chosen on the known world."""
    own = [job for job in done if job.name == name]
    return min(own, key=lambda job: float(np.nanmean(done[job].losses))).setting


def best(done: Mapping[Job, Done], name: str) -> Done:
    """With the setting of the least tuning loss: for LightGBM of each head by itself."""
    tried = [found for job, found in sorted(done.items(), key=lambda pair: pair[0].setting)
             if job.name == name]  # fmt: skip
    losses = np.stack([found.losses for found in tried])
    if name not in TREES:
        return tried[int(np.argmin(np.nanmean(losses, axis=1)))]
    picked = np.argmin(np.where(np.isfinite(losses), losses, np.inf), axis=0)
    columns = range(len(HEADS))
    scores = [
        np.stack([tried[picked[c]].scores[place][:, c] for c in columns], axis=1)
        for place in range(len(tried[0].scores))
    ]
    return Done(losses[picked, columns], scores)


def divergence(on: Judged, scores: Scores, column: int) -> tuple[Scores, Scores]:
    """Of the users, sums of the divergence of truth and scores over their rows, and rows."""
    known = np.isfinite(on.truth[:, column])
    p, q = on.truth[known, column], scores[known, column]
    count = int(on.users.max()) + 1
    users = on.users[known]
    lost = log_losses(p, q) - log_losses(p, p)
    return np.bincount(users, lost, count).astype(np.float64), np.bincount(
        users, minlength=count
    ).astype(np.float64)


def share(mine: Scores, theirs: Scores, goal: float, redrawn: NDArray[np.int64]) -> Metric:
    """1 − mine / theirs, of sums by user, with its interval over redrawn users."""
    value = 1 - mine.sum() / theirs.sum()
    samples = 1 - mine[redrawn].sum(1) / theirs[redrawn].sum(1)
    low, high = np.quantile(samples, [0.025, 0.975])
    return Metric(float(value), "share", goal, "higher", (float(low), float(high)))


def report(folder: Path, epochs: int, settings: int, workers: int) -> BenchReport:
    """Train everything, and compare."""
    jobs = [Job(name, setting) for name in NAMES for setting in range(settings)]
    with ProcessPoolExecutor(workers) as pool:
        waiting = {job: pool.submit(run, job, folder, epochs) for job in jobs}
        done = {job: _told(job, each.result()) for job, each in waiting.items()}
        chosen = _setting(done, "heliograph")
        less = [Job(name, chosen) for name in ABLATIONS]
        films = [replace(job, log=MOVIELENS) for job in jobs if job.name in TREES]
        films += [Job(name, _setting(done, name), MOVIELENS) for name in NETS]
        waiting = {job: pool.submit(run, job, folder, epochs) for job in (*less, *films)}
        more = {job: _told(job, each.result()) for job, each in waiting.items()}
    ablated = {job.name: more[job] for job in less}
    models = {name: best(done, name) for name in NAMES} | ablated
    metrics: dict[str, Metric] = {}
    series: dict[str, Any] = {
        "setting": chosen,
        "tuning_losses": {
            f"{job.name} {job.setting}": found.losses.tolist() for job, found in done.items()
        },
    }
    for place, (world, seed) in enumerate(JUDGED_ON):
        on = judged(folder, JUDGED[WORLD][place])
        found = _compared(on, {name: model.scores[place] for name, model in models.items()})
        series[world] = {"seed": seed, "rows": len(on.examples), **found.series}
        metrics |= {f"{world}_{name}": metric for name, metric in found.metrics.items()}
    on_films = {job: more[job] for job in films}
    rows, _ = read_log([folder / f"{JUDGED[MOVIELENS][0]}.parquet"])
    found = _on_films(rows, {name: best(on_films, name).scores[0] for name in NAMES})
    series[MOVIELENS] = found.series
    metrics |= {f"{MOVIELENS}_{name}": metric for name, metric in found.metrics.items()}
    return BenchReport("ranker_quality", metrics, series, PACKAGES)


def _told(job: Job, found: Done) -> Done:
    print(
        f"{job.log} {job.name} {job.setting}: {np.nanmean(found.losses):.5f}",
        file=sys.stderr,
        flush=True,
    )
    return found


@dataclass(frozen=True, slots=True)
class Compared:
    """On one judged log."""

    metrics: Mapping[str, Metric]
    series: Mapping[str, Any]


def _compared(on: Judged, scores: Mapping[str, Scores]) -> Compared:
    count = int(on.users.max()) + 1
    redrawn = np.random.default_rng(0).integers(0, count, (REDRAWS, count))
    metrics: dict[str, Metric] = {}
    told: dict[str, dict[str, float]] = {}
    for column, head in enumerate(HEADS):
        sums = {name: divergence(on, each, column) for name, each in scores.items()}
        told[head.name] = {
            name: float(lost.sum() / rows.sum())
            for name, (lost, rows) in sums.items()
            if not name.startswith("only_") or name == _only(head)
        }
        for rivals in RIVALS:
            rival = min(rivals, key=told[head.name].__getitem__)
            goal = GOAL if head in ENGAGEMENT and rivals is RIVALS[0] else 0.0
            name = f"{head.name.lower()}_gap_closed_over_{rival}"
            metrics[name] = share(sums["heliograph"][0], sums[rival][0], goal, redrawn)
    wrong, calibrated = _calibration(on.examples, scores["heliograph"])
    metrics["calibrated_groups"] = Metric(calibrated, "share", 1.0, "higher")
    _, at_best = _calibration(on.examples, np.nan_to_num(on.truth))
    calibration = {"not_calibrated": wrong, "calibrated_groups_of_the_truth": at_best}
    return Compared(metrics, {"divergence": told, **calibration})


def _calibration(rows: Examples, scores: Scores) -> tuple[list[str], float]:
    """The groups that `heliograph ranker evaluate` wouldn't call calibrated, and the share of all
    that it would. Labels are drawn by chance, so that some groups fail even the true scores."""
    figures = evaluate("heliograph", HEADS, rows, scores, 0)
    verdicts = {
        f"{head.name} {group.name}": group.as_json()["calibrated"]
        for head, groups in figures.heads.items()
        for group in groups
    }
    told = {name: good for name, good in verdicts.items() if good is not None}
    return [name for name, good in told.items() if not good], float(np.mean(list(told.values())))


def _on_films(rows: Examples, scores: Mapping[str, Scores]) -> Compared:
    """Log losses by head, as ratios to the best rival's."""
    _, users = np.unique(np.array(rows.user_id), return_inverse=True)
    count = int(users.max()) + 1
    redrawn = np.random.default_rng(0).integers(0, count, (REDRAWS, count))
    metrics: dict[str, Metric] = {}
    told: dict[str, dict[str, float]] = {}
    for column, head in enumerate(HEADS):
        labels = rows.labels[:, column]
        known = labels != MASKED
        if (labels == 1).sum() < LEAST_POSITIVES:
            continue
        sums = {
            name: np.bincount(
                users[known],
                log_losses(labels[known].astype(np.float64), each[known, column]),
                count,
            )
            for name, each in scores.items()
        }
        told[head.name] = {name: float(each.sum() / known.sum()) for name, each in sums.items()}
        ours = sums["heliograph"]
        for rivals in RIVALS:
            rival = min(rivals, key=told[head.name].__getitem__)
            ratios = ours[redrawn].sum(1) / sums[rival][redrawn].sum(1)
            low, high = np.quantile(ratios, [0.025, 0.975])
            metrics[f"{head.name.lower()}_log_loss_over_{rival}"] = Metric(
                float(ours.sum() / sums[rival].sum()),
                "ratio",
                1.0,
                "lower",
                (float(low), float(high)),
            )
    return Compared(metrics, {"rows": len(rows), "log_loss": told})


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.ranker_quality", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    parser.add_argument("--users", type=int, default=2000, help="of the log to learn from")
    parser.add_argument("--judged-users", type=int, default=2000, help="of each other log")
    parser.add_argument("--days", type=int, default=21)
    parser.add_argument("--epochs", type=int, default=4, help="at most")
    parser.add_argument(
        "--settings", type=int, default=4, choices=range(1, 5), help="tried of each model"
    )
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="heliograph-bench-") as made:
        make_logs(Path(made), given.users, given.judged_users, given.days)
        found = report(Path(made), given.epochs, given.settings, len(os.sched_getaffinity(0)))
    found.print()
    for name, heads in found.series["base"]["divergence"].items():
        print(name, {model: round(value, 5) for model, value in heads.items()})
    found.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
