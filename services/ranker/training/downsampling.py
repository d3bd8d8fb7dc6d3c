"""Negative downsampling: each head learns from its own share of its negatives.

Which negatives a head keeps is drawn by stable hash of head and decision. The draws of two heads
have nothing to do with each other, so a row stays for every head that kept it; leaving out whole
rows by one head's label would change what the others see. Nor have they to do with the sampling of
the log, whose inverse probability weighs each row that is kept as it does without downsampling.

A head that keeps the share w of its negatives learns a probability q from odds 1/w times too high.
The right one, p = q / (q + (1 − q) / w) (He et al., 2014, "Practical lessons from predicting
clicks on ads at Facebook", section 6.3), is the logit plus log w: a shift of the exported logits.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.vocabulary import HEADS, Head
from services.ranker.training.log import MASKED, Examples
from services.runtime.hashing import unit_hashes

_SALT = "negative-downsampling"


def learned(
    examples: Examples, part: NDArray[np.int64], negatives_kept: Mapping[Head, float]
) -> NDArray[np.bool_]:
    """Which labels training uses [n, heads], n all rows: of the rows in `part`, every positive and
    the drawn negatives. Heads that are missing in `negatives_kept` keep all."""
    used = np.zeros(examples.labels.shape, bool)
    used[part] = examples.labels[part] != MASKED
    for column, head in enumerate(HEADS):
        share = negatives_kept.get(head, 1.0)
        if share < 1:
            negatives = part[examples.labels[part, column] == 0]
            decisions = [examples.decision_id[row] for row in negatives.tolist()]
            used[negatives, column] = unit_hashes(decisions, _SALT, head.name) < share
    return used


def corrections(negatives_kept: Mapping[Head, float]) -> NDArray[np.float32]:
    """log w of each head [heads]: what to add to a logit that was learned with share w."""
    shares = [negatives_kept.get(head, 1.0) for head in HEADS]
    return np.log(shares).astype(np.float32)
