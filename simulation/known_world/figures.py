"""How predictable each head is: what nobody who knows the world's state could better."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.ranker.features import HEADS
from services.ranker.training.log import MASKED
from services.ranker.training.logistic import log_losses
from simulation.known_world.record import Record
from simulation.known_world.training_log import Labelled

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeadFigures:
    """One head, over all logged decisions before sampling; losses in nats per decision."""

    name: str
    decisions: int
    """Those with a label."""
    base_rate: float
    expected_rate: float
    """The mean of the truth."""
    bayes_loss: float
    """Log loss of the truth on the labels."""
    entropy: float
    """What that is expected to be: the mean entropy of the truth."""
    constant_loss: float
    """Log loss of the base rate."""


def figures(record: Record, labelled: Labelled) -> list[HeadFigures]:
    """Figures of the heads that have a label."""
    found = []
    for column, head in enumerate(HEADS):
        label = labelled.labels[:, column]
        known = label != MASKED
        if known.any():
            truth = record.decisions.truth[labelled.row[known], column]
            found.append(_head(head.name.lower(), label[known].astype(np.float64), truth))
    return found


def _head(name: str, label: Array, truth: Array) -> HeadFigures:
    rate = np.full(len(label), label.mean())
    return HeadFigures(
        name=name,
        decisions=len(label),
        base_rate=float(label.mean()),
        expected_rate=float(truth.mean()),
        bayes_loss=float(log_losses(label, truth).mean()),
        entropy=float(log_losses(truth, truth).mean()),
        constant_loss=float(log_losses(label, rate).mean()),
    )
