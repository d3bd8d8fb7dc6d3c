"""What rows of a training log must keep, so that a mistake is named and not learned from."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.schema import TABLE_ROWS, Features
from services.ranker.features.vocabulary import HEADS, Channel


def wrong_rows(
    channel: NDArray[np.int8],
    log_probability: NDArray[np.float32],
    labels: NDArray[np.int8],
    features: Features,
) -> Iterator[tuple[NDArray[np.bool_], str]]:
    """Marks [n] of rows that break a rule, with the rule."""
    channels = np.isin(channel, list(Channel))
    yield ~channels, f"channel is not 0 to {len(Channel) - 1}"
    probable: NDArray[np.bool_] = (log_probability > 0) & (log_probability <= 1)
    yield ~probable, "log_probability is not in (0, 1]"
    yield _any((labels < -1) | (labels > 1)), "a label is not -1, 0 or 1"
    for column, head in enumerate(HEADS):
        if head.channel is not Channel.NONE:
            other: NDArray[np.bool_] = (labels[:, column] >= 0) & (channel != head.channel)
            yield other, f"{head.name.lower()} has a label on another channel"
    for name, most in TABLE_ROWS.items():
        values = features[name].reshape(len(channel), -1)
        yield _any((values < 0) | (values >= most)), f"{name} is not 0 to {most - 1}"


def _any(marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows with a mark anywhere: [n, m] → [n]."""
    found: NDArray[np.bool_] = np.logical_or.reduce(marks, axis=1)
    return found
