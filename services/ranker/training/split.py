"""Which rows of a log a model learns from, and which it is judged on."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.vocabulary import HEADS, stable_key
from services.ranker.training.log import MASKED, Examples, LogError
from services.runtime.durations import in_words

TRAIN_SHARE = 0.7
"""Share of the log's time, from its start, that models learn from."""
TUNING_USERS = 2
"""One user in this many (by hash) tunes, the others validate."""


@dataclass(frozen=True, slots=True)
class Split:
    """Positions of rows. Rows in the embargo are in none of the parts."""

    train: NDArray[np.int64]
    tuning: NDArray[np.int64]
    """Later rows that choose when to stop and calibrate the scores."""
    validation: NDArray[np.int64]
    """Later rows of other users, that only measure."""
    embargo: timedelta


def split(examples: Examples) -> Split:
    """Cut by time: learn from the first 70 %, leave out the longest label window of the heads that
    the log has labels for, judge on the rest. Raises LogError when a part stays empty."""
    labelled = [head for head, column in zip(HEADS, examples.labels.T, strict=True) if
                bool((column != MASKED).any())]  # fmt: skip
    if not labelled:
        raise LogError("the log has no labels")
    embargo = max(head.window for head in labelled)
    first, last = int(examples.time.min()), int(examples.time.max())
    cut = first + TRAIN_SHARE * (last - first)
    late = examples.time >= cut + embargo.total_seconds()
    tunes = {user: stable_key("tuning", user) % TUNING_USERS == 0 for user in examples.user_id}
    tuning = np.array([tunes[user] for user in examples.user_id])
    parts = (examples.time < cut, late & tuning, late & ~tuning)
    train, tune, validate = (np.flatnonzero(part) for part in parts)
    if not (len(train) and len(tune) and len(validate)):
        length, gap = in_words(timedelta(seconds=last - first)), in_words(embargo)
        raise LogError(f"a log of {length} is too short for an embargo of {gap}")
    return Split(train, tune, validate, embargo)
