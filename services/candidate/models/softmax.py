"""Vectors learned from what is left out of profiles.

A linear denoising autoencoder with a multinomial likelihood (Mult-DAE without hidden layers: Liang
et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018). Half of a profile is
shown, its members' vectors add up, and a softmax over all candidates has to find the other half. A
bias of each candidate takes what everybody likes out of the vectors; it isn't part of the scores.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.sparse import csr_array

from services.candidate.sources.arrays import Floats, Matrix, Rows

EPOCHS = 120
RATE = 0.01
DECAY = 1e-4
SHOWN = 0.5
"""Share of a profile's members."""
BLOCK = 512
START = 0.05
"""Deviation of the first values."""
HIDDEN = np.float32(-30.0)
"""Score of a candidate that was shown: it can't be what was left out."""
MOMENTUM, SPREAD = np.float32(0.9), np.float32(0.999)


@dataclass(frozen=True, eq=False, slots=True)
class Adam:
    """The optimiser's memory of one array (Kingma and Ba, "Adam", ICLR 2015)."""

    values: Floats
    mean: Floats
    square: Floats

    @classmethod
    def of(cls, values: Floats) -> Self:
        """At the start; steps change the values in place."""
        return cls(values, np.zeros_like(values), np.zeros_like(values))

    def step(self, gradient: Floats, rate: float, count: int) -> None:
        """The step number `count`, from 1."""
        self.mean[:] += (1 - MOMENTUM) * (gradient - self.mean)
        self.square[:] += (1 - SPREAD) * (gradient * gradient - self.square)
        spread = np.sqrt(self.square / (1 - SPREAD**count))
        spread += np.float32(1e-8)
        self.values[:] -= np.float32(rate / (1 - MOMENTUM**count)) * self.mean / spread


def softmax_vectors(matrix: Matrix, rank: int, seed: int) -> tuple[Floats, Floats]:
    """Inward and outward vectors, candidates × rank each."""
    generator = np.random.default_rng(seed)
    count = matrix.shape[1]
    inward, outward = (
        (START * generator.standard_normal((count, rank))).astype(np.float32) for _ in range(2)
    )
    bias = np.log(matrix.sum(axis=0) + 1.0).astype(np.float32)
    parts = [Adam.of(values) for values in (inward, outward, bias - bias.max())]
    rows = np.flatnonzero(np.diff(matrix.indptr) > 1).astype(np.int64)
    steps = 0
    for epoch in range(EPOCHS):
        generator.shuffle(rows)
        rate = RATE * (1 + np.cos(np.pi * epoch / EPOCHS)) / 2
        for start in range(0, len(rows), BLOCK):
            steps += 1
            shown, hidden = _split(matrix, np.sort(rows[start : start + BLOCK]), generator)
            gradients = _gradients(shown, hidden, *(part.values for part in parts))
            for part, gradient in zip(parts, gradients, strict=True):
                part.step(gradient, rate, steps)
    return inward, outward


def _split(matrix: Matrix, rows: Rows, generator: np.random.Generator) -> tuple[Matrix, Matrix]:
    """Members that are shown and those that are to be found."""
    profiles = matrix[rows]
    shown = generator.random(len(profiles.data)) < SHOWN
    return _some(profiles, shown), _some(profiles, ~shown)


def _some(profiles: Matrix, kept: np.ndarray) -> Matrix:
    ends = np.concatenate([[0], np.cumsum(kept)])[profiles.indptr]
    ones = np.ones(int(kept.sum()), np.float32)
    found: Matrix = csr_array((ones, profiles.indices[kept], ends), shape=profiles.shape)
    return found


def _gradients(
    shown: Matrix, hidden: Matrix, inward: Floats, outward: Floats, bias: Floats
) -> tuple[Floats, Floats, Floats]:
    """Of the mean over all members to be found."""
    counts = np.diff(shown.indptr)
    shown.data /= np.repeat(np.sqrt(counts, dtype=np.float32), counts)
    queries = np.asarray(shown @ inward)
    share = queries @ outward.T
    share += bias
    share[np.repeat(np.arange(len(counts)), counts), shown.indices] = HIDDEN
    share -= share.max(axis=1, keepdims=True)
    np.exp(share, out=share)
    many = np.diff(hidden.indptr)
    share *= (many / share.sum(axis=1))[:, None].astype(np.float32)
    share[np.repeat(np.arange(len(many)), many), hidden.indices] -= 1
    share /= np.float32(max(hidden.nnz, 1))
    decay = np.float32(DECAY)
    return (
        np.asarray(shown.T @ (share @ outward)) + decay * inward,
        share.T @ queries + decay * outward,
        share.sum(axis=0),
    )
