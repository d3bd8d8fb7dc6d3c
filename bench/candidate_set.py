"""`python -m bench.candidate_set --train F --test F --json OUT`: both directions on any set.

Columns `user_id` and `item_id` in both Parquet files; `--made USERS ITEMS` takes a made-up set in
their place. Nothing is tuned for the set. All queries of
the test are asked through a folder that `fit` wrote, as `heliograph candidate recommend` does, for
candidates that they aren't known to have met. Rivals: the most popular, the linear graph filter,
and GF-CF (Shen et al., "How Powerful is Graph Convolution for Recommendation?", CIKM 2021), with
their published settings. Users for items are told for the filters, and for the vectors that an
index serves (`audience`).
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from bench.candidate_quality import lead
from bench.made_interactions import made_interactions
from bench.report import BenchReport, Metric
from services.candidate.models import (
    CandidateModel,
    Interactions,
    Side,
    fit,
    load,
    read_interactions,
    save,
)
from services.candidate.models.blocks import blocks
from services.candidate.models.decomposition import Basis
from services.candidate.models.scorers import Factors, LinearFilter
from services.candidate.sources.arrays import Floats, Matrix, Rows, sparse, top_k

COUNT = 20
LOW_PASS_RANK, LOW_PASS_WEIGHT = 256, np.float32(0.3)
"""Of GF-CF."""
FIT_SECONDS, FIT_GIGABYTES = 900.0, 4.0
SIDES: tuple[Side, Side] = ("items", "users")
PACKAGES = ("numpy", "scipy")

Scores = Callable[[Rows], Floats]
"""Of all candidates for some queries."""


def held_out(known: Interactions, test: Interactions) -> Matrix:
    """Users × items, of those that are known: 1 where a pair is to be found."""
    users, items = (
        {name: row for row, name in enumerate(ids)} for ids in (known.user_ids, known.item_ids)
    )
    user_rows = np.array([users.get(name, -1) for name in test.user_ids])[test.users]
    item_rows = np.array([items.get(name, -1) for name in test.item_ids])[test.items]
    kept = (user_rows >= 0) & (item_rows >= 0)
    ones = np.ones(int(kept.sum()), np.float32)
    shape = (len(known.user_ids), len(known.item_ids))
    return sparse(ones, user_rows[kept], item_rows[kept], shape)


def judged(scores: Scores, known: Matrix, wanted: Matrix) -> Floats:
    """Recall and NDCG at 20 of each query that has something to find, queries × 2."""
    rows = np.flatnonzero(np.diff(wanted.indptr)).astype(np.int64)
    discount = 1 / np.log2(np.arange(2, COUNT + 2))
    found = []
    for _, part in blocks(rows, known.shape[1]):
        table = np.array(scores(part), np.float32)
        seen = known[part]
        table[np.repeat(np.arange(len(part)), np.diff(seen.indptr)), seen.indices] = -np.inf
        met = np.asarray(wanted[part].todense()) > 0
        hits = np.take_along_axis(met, np.maximum(top_k(table, COUNT)[0], 0), axis=1)
        many = met.sum(axis=1)
        best = np.cumsum(discount)[np.minimum(many, COUNT) - 1]
        found.append(np.stack([hits.sum(axis=1) / many, hits @ discount / best], axis=1))
    return np.concatenate(found)


def rivals(known: Interactions) -> dict[str, Scores]:
    """By name; oriented as queries × candidates."""
    matrix = known.matrix
    linear = LinearFilter.fit(matrix, (0.5, 0.5, 0.5))
    basis = Basis.fit(known, LOW_PASS_RANK, 0, smoothing=0.0)
    low = Factors.low_pass(basis, LOW_PASS_RANK, (0.5, 0.5))
    popular = np.asarray(matrix.sum(axis=0), np.float32)
    return {
        "popular": lambda rows: np.tile(popular, (len(rows), 1)),
        "linear": lambda rows: linear.scores(matrix[rows]),
        "gfcf": lambda rows: (
            linear.scores(matrix[rows]) + LOW_PASS_WEIGHT * low.scores(matrix[rows])
        ),
    }


def ours(model: CandidateModel, side: Side) -> Scores:
    """Of a direction of the model."""

    def scores(rows: Rows) -> Floats:
        return next(scores for _, scores, _ in model.scored(side, rows))

    return scores


def run(known: Interactions, test: Interactions) -> BenchReport:
    """Fit, write, read and ask."""
    wanted = held_out(known, test)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        save(fit(known), Path(work) / "model")
        seconds = time.perf_counter() - start
        gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        model = load(Path(work) / "model")
    metrics = {
        "fit_seconds": Metric(seconds, "s", FIT_SECONDS, "lower"),
        "fit_gigabytes": Metric(gigabytes, "GB", FIT_GIGABYTES, "lower"),
    }
    audience = replace(model, directions={**model.directions, "users": model.audience})
    means: dict[str, dict[str, float]] = {}
    for side in SIDES:
        turned = side == "users"
        oriented = known.transposed if turned else known
        target = csr_array(wanted.T.tocsr()) if turned else wanted
        others = rivals(oriented)
        methods = {**others, "heliograph": ours(model, side)}
        if turned:
            methods["audience"] = ours(audience, side)
        figures = {name: judged(scores, oriented.seen, target) for name, scores in methods.items()}
        for name, table in figures.items():
            recall, ndcg = (float(mean) for mean in table.mean(axis=0))
            means[f"{side}: {name}"] = {"recall20": recall, "ndcg20": ndcg}
        best = max(others, key=lambda name: float(figures[name][:, 1].mean()))
        for place, figure in enumerate(("recall20", "ndcg20")):
            ratio, span = lead(figures["heliograph"][:, place], figures[best][:, place])
            metrics[f"{side}_{figure}_over_{best}"] = Metric(ratio, "ratio", 1.0, "higher", span)
    chosen = {side: model.directions[side].label for side in SIDES}
    series = {"means": means, "chosen": chosen, "audience": model.audience.label}
    return BenchReport("candidate_set", metrics, series, PACKAGES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.candidate_set", description=__doc__)
    parser.add_argument("--train", type=Path, metavar="PARQUET")
    parser.add_argument("--test", type=Path, metavar="PARQUET")
    parser.add_argument("--made", type=int, nargs=2, metavar=("USERS", "ITEMS"))
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args(arguments)
    if options.made:
        known, test = made_interactions(options.made[0], options.made[1], 0)
    elif options.train and options.test:
        known, test = read_interactions(options.train), read_interactions(options.test)
    else:
        parser.error("--train and --test, or --made")
    report = run(known, test)
    report.print()
    for name, figures in report.series["means"].items():
        print(f"{name}: recall@20 {figures['recall20']:.4f}, NDCG@20 {figures['ndcg20']:.4f}")
    if options.json:
        report.write(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
