"""Utility: what one event in one channel is worth, a linear combination of the ranker's heads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.policy.batch import Floats
from services.policy.channel_bits import CHANNELS, EMAIL, IN_APP, PUSH

ANY_SEGMENT = "*"

# Numbers of the proto's heads.
PUSH_OPEN, EMAIL_CLICK, INAPP_CLICK = 1, 2, 3
PUSH_DISABLE, EMAIL_UNSUBSCRIBE, APP_DELETE = 4, 5, 6


@dataclass(frozen=True, slots=True)
class HeadWeight:
    """Weight of one head for events sent in one channel."""

    head: int
    channel: int
    weight: float


DEFAULT_WEIGHTS = (
    HeadWeight(PUSH_OPEN, PUSH, 1.0),
    HeadWeight(PUSH_DISABLE, PUSH, -10.0),
    HeadWeight(APP_DELETE, PUSH, -50.0),
    HeadWeight(EMAIL_CLICK, EMAIL, 1.0),
    HeadWeight(EMAIL_UNSUBSCRIBE, EMAIL, -10.0),
    HeadWeight(APP_DELETE, EMAIL, -50.0),
    HeadWeight(INAPP_CLICK, IN_APP, 1.0),
)


@dataclass(frozen=True, slots=True)
class Objectives:
    """Weights by segment; `*` stands for the segments without their own."""

    by_segment: Mapping[str, Sequence[HeadWeight]] = field(
        default_factory=lambda: {ANY_SEGMENT: DEFAULT_WEIGHTS}
    )

    def of(self, segment: str) -> Sequence[HeadWeight]:
        """The weights in force for a segment."""
        found = self.by_segment.get(segment) or self.by_segment.get(ANY_SEGMENT)
        return DEFAULT_WEIGHTS if found is None else found


def weight_matrix(
    weights: Iterable[HeadWeight], heads: Sequence[int], trained: Iterable[int]
) -> Floats:
    """Weights as [channels, heads], in the order of the score columns.

    Heads the model was not trained on weigh 0: their scores mean nothing.
    """
    column = {head: position for position, head in enumerate(heads)}
    known = set(trained)
    matrix = np.zeros((len(CHANNELS), len(heads)))
    for weight in weights:
        if weight.head in known and weight.head in column:
            matrix[weight.channel - 1, column[weight.head]] += weight.weight
    return matrix


def utilities(
    scores: NDArray[np.float32],
    event_segments: Sequence[str],
    objectives: Objectives,
    heads: Sequence[int],
    trained: Iterable[int],
) -> Floats:
    """Utility of each event in each channel, [events, channels]; `scores` is [events, heads]."""
    names = sorted(set(event_segments))
    known = list(trained)
    index = {name: position for position, name in enumerate(names)}
    matrices = np.stack([weight_matrix(objectives.of(name), heads, known) for name in names])
    rows = np.fromiter((index[name] for name in event_segments), np.int32, len(event_segments))
    result = np.empty((len(rows), len(CHANNELS)))
    for position in range(len(names)):
        chosen = rows == position
        result[chosen] = scores[chosen].astype(np.float64) @ matrices[position].T
    return result
