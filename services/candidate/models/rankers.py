"""A fitted direction as it stands at one moment: from profiles to scores of all candidates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from services.candidate.models.combination import Combination, taste_features
from services.candidate.models.newcomers import Newcomers
from services.candidate.models.scorers import Factors, Scorer
from services.candidate.sources.arrays import Floats, Mask, Matrix

LEAST_VARIANCE = 1e-6
"""Share of the largest variance below which a direction in space counts as none."""


class Ranker(Protocol):
    """Scores all candidates for profiles."""

    def scores(self, profiles: Matrix, new: Mask | None = None) -> Floats:
        """Profiles × candidates; −inf for a candidate that nobody interacted with. `new`: profiles
        that are borrowed, or empty, since their query has no interactions."""


@dataclass(frozen=True, eq=False, slots=True)
class FilterRanker:
    """Any scorers, each in one or two forms (`taste_features`); dense."""

    scorers: Sequence[Scorer]
    combination: Combination
    offset: Floats
    context: Floats
    centres: Floats
    """Features of taste × candidates: each candidate's mean over queries."""
    known: Mask
    """Candidates that somebody interacted with."""
    newcomers: Newcomers | None = None
    """None: new queries are scored as others are."""

    def scores(self, profiles: Matrix, new: Mask | None = None) -> Floats:
        """See `Ranker`."""
        shape = (profiles.shape[0], len(self.known))
        empty = np.diff(profiles.indptr) == 0
        taste: list[Floats] = []
        forms = len(self.centres) // max(len(self.scorers), 1)
        for scorer in self.scorers:
            for feature in taste_features(scorer.scores(profiles), self.known, forms):
                feature -= self.centres[len(taste)]
                feature[empty] = 0.0
                taste.append(feature)
        found = self.combination.scores(self.offset, self.context, taste)
        full: Floats = np.array(np.broadcast_to(found, shape), np.float32)
        if self.newcomers is not None and new is not None and new.any():
            full[new] = self.newcomers.scores(profiles[np.flatnonzero(new)])
        full[:, ~self.known] = -np.inf
        return full


@dataclass(frozen=True, eq=False, slots=True)
class FactorRanker:
    """Inner products only, so that an index of vectors can answer exactly: the score of candidate
    c for a query vector q is `vectors[c] · q + bias[c]`.

    It says the same as a `FilterRanker` with the first form of the same `Factors`. The vectors of a
    scorer are centred and whitened over the known candidates: the scores of a query then have mean
    0, and their deviation is the length of its vector. What is subtracted from each candidate, its
    mean over queries, is the mean query.
    """

    inward: Floats
    """Candidates × dimensions: what a profile's members add up."""
    vectors: Floats
    """Candidates × dimensions, all scorers side by side."""
    bias: Floats
    """Candidates: the part that no query changes; −inf for one that nobody interacted with."""
    ends: tuple[int, ...]
    """Where the dimensions of each scorer end."""
    weights: Floats
    """Of each scorer."""
    mean: Floats
    """The mean query, subtracted from every one."""

    @classmethod
    def of(
        cls, scorers: Sequence[Factors], weights: Floats, bias: Floats, sample: Matrix | None
    ) -> Self:
        """From fitted scorers. `bias` is −inf for candidates that aren't known; the mean query is
        that of the profiles in `sample`, None: 0."""
        known = np.isfinite(bias)
        pairs = [_whitened(scorer, known) for scorer in scorers]
        blank = np.zeros((len(bias), 0), np.float32)
        inward = np.concatenate([blank, *(pair[0] for pair in pairs)], axis=1)
        vectors = np.concatenate([blank, *(pair[1] for pair in pairs)], axis=1)
        ends = tuple(np.cumsum([pair[0].shape[1] for pair in pairs], dtype=int).tolist())
        nothing = np.zeros(inward.shape[1], np.float32)
        found = cls(inward, vectors, bias, ends, weights, nothing)
        if sample is None or not sample.shape[0]:
            return found
        mean = found.queries(sample).mean(axis=0)
        return cls(inward, vectors, bias, ends, weights, mean)

    def queries(self, profiles: Matrix) -> Floats:
        """Profiles × dimensions. An empty profile has the vector 0: it is ranked by the bias."""
        sums = np.asarray(profiles @ self.inward, np.float32)
        return self.directed(sums, np.diff(profiles.indptr) == 0)

    def directed(self, sums: Floats, empty: Mask) -> Floats:
        """The vectors of profiles from the sums of `inward` over their members, and which of them
        have none."""
        found = sums.copy()
        begin = 0
        for end, weight in zip(self.ends, self.weights, strict=True):
            part = found[:, begin:end]
            length = np.linalg.norm(part, axis=1, keepdims=True)
            part *= weight / np.maximum(length, np.float32(1e-12))
            begin = end
        found -= self.mean
        found[empty] = 0.0
        return found

    def scores(self, profiles: Matrix, new: Mask | None = None) -> Floats:
        """See `Ranker`; new queries are scored as others are."""
        return np.asarray(self.queries(profiles) @ self.vectors.T + self.bias, np.float32)


def _whitened(scorer: Factors, known: Mask) -> tuple[Floats, Floats]:
    """Inward and outward vectors of the same scores, up to a constant for each query, with the
    outward ones of the known candidates of mean 0 and covariance 1."""
    there = scorer.outward[known].astype(np.float64)
    mean = there.mean(axis=0) if len(there) else np.zeros(there.shape[1])
    variances, axes = np.linalg.eigh(np.atleast_2d((there - mean).T @ (there - mean)))
    variances = variances / max(len(there), 1)
    kept = variances > LEAST_VARIANCE * max(variances.max(initial=0.0), 1e-30)
    root = np.sqrt(variances[kept])
    outward = (scorer.outward - mean) @ (axes[:, kept] / root)
    inward = scorer.inward @ (axes[:, kept] * root)
    return inward.astype(np.float32), outward.astype(np.float32)
