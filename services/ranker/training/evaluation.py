"""How good a model is on a log: per head, over all rows and per segment, with intervals.

`as_json` gives

- `model`: its version; `logs`: SHA-256 by file; `rows`: "held-out" (the validation part, where the
  model was trained on these logs) or "all"; `row_count`, `user_count`, `time` (first and last);
- `seed`, `resamples`: of the bootstrap, which draws users, the same ones for every figure;
- `heads`: by head, a list of groups: first "all", then each segment with 500 positives or more,
  then "pooled", the segments with fewer, unless they are all there are. Of a group: `name`,
  `segments`, `rows`, `users`, `positives` (not weighted), `base_rate` (weighted); `metrics`: by
  metric [value, low, high], the 95 % interval, null where it isn't defined; `calibrated`: whether
  it keeps the bounds of `is_calibrated`, null below 500 positives;
- `against`, where another model was compared: its version as `model`, and `heads`: by head the same
  groups with `name` and `differences`, metric of this model less that of the other, paired.

All are weighted by the inverse of the probability with which a row was logged. Heads without a
label in the rows, and heads that the model hasn't trained, are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.vocabulary import HEADS, SEGMENT_BUCKETS, SEGMENTS, Head
from services.ranker.training.log import MASKED, Examples
from services.ranker.training.logistic import Floats
from services.ranker.training.metrics import (
    Counted,
    Rows,
    auc,
    calibration,
    log_loss,
    ndcg,
    normalised_entropy,
    slope,
    squared_calibration_error,
)

RESAMPLES = 200
LEAST_POSITIVES = 500
"""Segments with fewer are pooled, and nobody judges their calibration."""
METRICS = {
    "auc": auc,
    "log_loss": log_loss,
    "normalised_entropy": normalised_entropy,
    "calibration": calibration,
    "slope": slope,
    "ece": squared_calibration_error,
    "ndcg": ndcg,
}
"""By name; `ece` is the root of what its function gives, 0 where that is below 0."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; NaN: not defined."""

    value: float
    low: float
    high: float

    def as_json(self) -> list[float | None]:
        """[value, low, high], null where not defined."""
        numbers = (self.value, self.low, self.high)
        return [round(number, 5) if np.isfinite(number) else None for number in numbers]


@dataclass(frozen=True, slots=True)
class Resampled:
    """A metric on the rows, and on each resample of the users."""

    value: float
    samples: Floats

    def __sub__(self, other: "Resampled") -> "Resampled":
        """The difference, where both are of the same resamples."""
        return Resampled(self.value - other.value, self.samples - other.samples)

    def estimate(self) -> Estimate:
        """With the percentile interval of the resamples where it is defined."""
        finite = self.samples[np.isfinite(self.samples)]
        if not (len(finite) and np.isfinite(self.value)):
            return Estimate(self.value, np.nan, np.nan)
        low, high = np.quantile(finite, [0.025, 0.975])
        return Estimate(self.value, float(low), float(high))


@dataclass(frozen=True, slots=True)
class Group:
    """Figures of one head over all rows, a segment, or several pooled."""

    name: str
    segments: tuple[str, ...]
    rows: int
    users: int
    positives: int
    base_rate: float
    metrics: Mapping[str, Resampled]

    def as_json(self) -> dict[str, Any]:
        """See the module."""
        judged = self.positives >= LEAST_POSITIVES
        return {
            "name": self.name,
            "segments": list(self.segments),
            "rows": self.rows,
            "users": self.users,
            "positives": self.positives,
            "base_rate": round(self.base_rate, 6),
            "metrics": {name: found.estimate().as_json() for name, found in self.metrics.items()},
            "calibrated": is_calibrated(self) if judged else None,
        }


def is_calibrated(group: Group) -> bool:
    """Σp/Σy within .95 to 1.05 or its interval around 1, slope .9 to 1.1, and a debiased ECE of at
    most .01 or a twentieth of the base rate, whichever is more."""
    ratio = group.metrics["calibration"].estimate()
    near = 0.95 <= ratio.value <= 1.05 or ratio.low <= 1 <= ratio.high
    steep = 0.9 <= group.metrics["slope"].value <= 1.1
    return near and steep and group.metrics["ece"].value <= max(0.01, 0.05 * group.base_rate)


def draws(user_count: int, seed: int) -> NDArray[np.uint8]:
    """How often each user counts in each resample [resamples, users]."""
    random = np.random.default_rng(seed)
    drawn = np.empty((RESAMPLES, user_count), np.uint8)
    for row in drawn:
        row[:] = np.bincount(random.integers(user_count, size=user_count), minlength=user_count)
    return drawn


def evaluate_head(
    head: Head, examples: Examples, scores: Floats, drawn: NDArray[np.uint8]
) -> Iterator[Group]:
    """The groups of one head: all rows, then by segment. `scores` [n] are its probabilities.

    Nothing for a head without labels. `drawn` is of the examples' users in the order of their ids.
    """
    labels = examples.labels[:, HEADS.index(head)]
    known = labels != MASKED
    if not known.any():
        return
    _, users = np.unique(np.array(examples.user_id), return_inverse=True)
    weights = examples.weights
    of_row = np.array([segment_name(row) for row in range(SEGMENT_BUCKETS)])[
        examples.users["segment"]
    ]
    for name, segments in _groups(of_row, labels):
        at = known & np.isin(of_row, segments)
        rows = Rows(scores[at], labels[at].astype(np.float64), weights[at], users[at], len(drawn.T))
        yield _group(name, segments, rows, drawn)


def segment_name(bucket: int) -> str:
    """The name of a segment's row of the features: what is not named shares rows by hash."""
    named = 1 <= bucket <= len(SEGMENTS)
    return SEGMENTS[bucket - 1] if named else f"other-{bucket}"


def _groups(of_row: NDArray[Any], labels: NDArray[np.int8]) -> list[tuple[str, tuple[str, ...]]]:
    """Names and segments of the groups: all; each segment with enough positives; the others."""
    present = tuple(str(name) for name in np.unique(of_row[labels != MASKED]))
    enough = [n for n in present if np.sum(labels[of_row == n] == 1) >= LEAST_POSITIVES]
    pooled = tuple(name for name in present if name not in enough)
    groups = [("all", present), *((name, (name,)) for name in enough)]
    return [*groups, ("pooled", pooled)] if enough and pooled else groups


def _group(name: str, segments: tuple[str, ...], rows: Rows, drawn: NDArray[np.uint8]) -> Group:
    return Group(
        name=name,
        segments=segments,
        rows=len(rows.labels),
        users=len(np.unique(rows.users)),
        positives=int(rows.labels.sum()),
        base_rate=float(np.average(rows.labels, weights=rows.weights)),
        metrics={
            key: _rooted(_resampled(metric(rows), drawn))
            if key == "ece"
            else _resampled(metric(rows), drawn)
            for key, metric in METRICS.items()
        },
    )


def _resampled(counted: Counted, drawn: NDArray[np.uint8]) -> Resampled:
    samples = [counted(counts.astype(np.float64)) for counts in drawn]
    return Resampled(counted(np.ones(drawn.shape[1])), np.array(samples))


def _rooted(squared: Resampled) -> Resampled:
    """The root of a squared error. Drawing users adds their noise once more to the resamples, so
    these are moved to where the value is."""
    if not np.isfinite(squared.samples).any():
        return squared
    moved = squared.samples - np.nanmean(squared.samples) + squared.value
    return Resampled(float(np.sqrt(np.maximum(squared.value, 0))), np.sqrt(np.maximum(moved, 0)))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The groups of each head of one model on the same rows."""

    version: str
    heads: Mapping[Head, Sequence[Group]]

    def less(self, other: "Evaluation") -> dict[Head, list[tuple[str, dict[str, Estimate]]]]:
        """For heads that both have trained, by group: metrics of this model less the other's."""
        return {
            head: [
                (
                    mine.name,
                    {
                        name: (mine.metrics[name] - theirs.metrics[name]).estimate()
                        for name in METRICS
                    },
                )
                for mine, theirs in zip(groups, other.heads[head], strict=True)
            ]
            for head, groups in self.heads.items()
            if head in other.heads
        }


def evaluate(
    version: str, heads: Sequence[Head], examples: Examples, scores: Floats, seed: int
) -> Evaluation:
    """All figures of these heads of a model; `scores` [n, heads] in the order of HEADS."""
    drawn = draws(examples.user_count, seed)
    found = {
        head: list(evaluate_head(head, examples, scores[:, HEADS.index(head)], drawn))
        for head in heads
    }
    return Evaluation(version, {head: groups for head, groups in found.items() if groups})


def as_json(
    facts: Mapping[str, Any], mine: Evaluation, other: Evaluation | None = None
) -> dict[str, Any]:
    """See the module. `facts`: of logs, rows and bootstrap."""
    report = {
        "model": mine.version,
        **facts,
        "heads": {
            head.name: [group.as_json() for group in groups] for head, groups in mine.heads.items()
        },
    }
    if other is not None:
        heads = {
            head.name: [
                {"name": name, "differences": {key: each.as_json() for key, each in found.items()}}
                for name, found in groups
            ]
            for head, groups in mine.less(other).items()
        }
        report["against"] = {"model": other.version, "heads": heads}
    return report
