"""What a question asks of users besides their scores, as a judge of exact search."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np
import numpy.typing as npt

from services.candidate.choosing import reached
from services.candidate.judging import Judge
from services.candidate.questions import Place
from services.candidate.sources.arrays import Floats, Rows

ROUNDING = 1e-6
"""Eight times the rounding error of a float32: more than that of a product of all factors."""
PROBES = 256
_SIGN = np.int32(0x7FFFFFFF)
_GREATEST = np.finfo(np.float32).max


@dataclass(frozen=True, eq=False, slots=True)
class SearchJudge:
    """A row is worth what `judge` makes of its relevance, if it stands behind a place."""

    judge: Judge
    relevance: Callable[[Floats], Floats]
    """Of scores; it never falls where they grow. −inf stays."""
    ids: Sequence[str] = ()
    """Of the rows, in their order; needed with `after`."""
    after: Place | None = None

    greatest_factor: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "greatest_factor", self.judge.greatest_factor)

    def values(self, rows: Rows, scores: Floats) -> Floats:
        """What rows (ascending) are worth; −inf for those left out."""
        found = self.judge.judge(rows, self.relevance(scores)).scores
        if self.after is not None:
            found[reached(self.after, self.ids, rows, found)] = -np.inf
        return found

    def least_score(self, value: float) -> float:
        """The least score that is relevant enough, and that the greatest factor could raise to the
        value; a hair lower, for what is lost by rounding."""
        wanted = max(value / self.greatest_factor, self.judge.min_relevance) * (1.0 - ROUNDING)
        return least_score(self.relevance, wanted) if wanted > 0 else -inf


def least_score(relevance: Callable[[Floats], Floats], wanted: float) -> float:
    """The least float32 whose relevance is at least `wanted`; infinite: there is none.

    Halving the floats in their order, into 256 parts at a time, needs to know nothing of the
    function but that it never falls: four times are enough.
    """
    low, high = (int(_ordered(np.array([end], np.float32))[0]) for end in (-_GREATEST, _GREATEST))
    with np.errstate(over="ignore"):
        while low < high:
            probes = np.linspace(low, high, PROBES).astype(np.int64)
            enough = np.flatnonzero(relevance(_floats(probes)) >= wanted)
            if not len(enough):
                return inf
            high = int(probes[enough[0]])
            low = int(probes[enough[0] - 1]) + 1 if enough[0] else high
    return float(_floats(np.array([high]))[0])


def _ordered(values: Floats) -> npt.NDArray[np.int32]:
    """Whole numbers in the order of finite floats: their bits, those of negative ones turned
    round."""
    bits = values.view(np.int32)
    return bits ^ ((bits >> 31) & _SIGN)


def _floats(ordered: Rows) -> Floats:
    bits = ordered.astype(np.int32)
    found: Floats = (bits ^ ((bits >> 31) & _SIGN)).view(np.float32)
    return found
