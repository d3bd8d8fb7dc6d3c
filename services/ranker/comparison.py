"""What two models made of the same calls, as sums that add up over calls and replicas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from services.ranker.features.vocabulary import HEADS, Head


@dataclass(frozen=True, slots=True)
class Comparison:
    """Sums of one head over events, and over the calls whose events both models put in an order."""

    events: int = 0
    served: float = 0.0
    """Of the scores answered."""
    shadow: float = 0.0
    """Of the other model's scores."""
    difference: float = 0.0
    """Of the absolute differences."""
    calls: int = 0
    correlation: float = 0.0
    """Of Spearman's rank correlations of a call's events."""

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def compared(
    served: NDArray[np.float32], shadow: NDArray[np.float32], heads: Sequence[Head]
) -> Mapping[Head, Comparison]:
    """One call's scores [N, all heads] by two models; rows with a number that isn't finite don't
    count."""
    finite = np.isfinite(served).all(axis=1) & np.isfinite(shadow).all(axis=1)
    found = {}
    for head in heads:
        column = HEADS.index(head)
        a, b = served[finite, column].astype(np.float64), shadow[finite, column].astype(np.float64)
        correlation = rank_correlation(a, b)
        found[head] = Comparison(
            events=len(a),
            served=float(a.sum()),
            shadow=float(b.sum()),
            difference=float(np.abs(a - b).sum()),
            calls=int(correlation is not None),
            correlation=correlation or 0.0,
        )
    return found


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """Spearman's: 1 for the same order, −1 for the reverse; None where all of one are equal."""
    middle = (len(a) + 1) / 2
    x, y = rankdata(a) - middle, rankdata(b) - middle
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else None
