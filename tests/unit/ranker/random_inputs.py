"""Inputs of the model with every array filled, for as many users, events and steps as asked."""

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.schema import SEQUENCES, Features
from services.ranker.inputs import INPUTS


def random_inputs(seed: int, users: int, events: int, steps: int) -> Features:
    """Each user's sequences end somewhere, padding follows."""
    draw = np.random.default_rng(seed)
    axes = {"users": users, "events": events, "steps": steps, "items": 2 + events}
    made: Features = {}
    for each in INPUTS:
        shape = [axes[axis] if isinstance(axis, str) else axis for axis in each.shape]
        if each.dtype == "float32":
            made[each.name] = draw.normal(size=shape).astype("float32")
        else:
            end = axes[each.limit] if isinstance(each.limit, str) else each.limit
            made[each.name] = draw.integers(end or 1000, size=shape).astype(each.dtype)
    made["items"] /= np.linalg.norm(made["items"], axis=1, keepdims=True)
    made["items"][0] = 0
    for sequence in SEQUENCES:
        padding = np.arange(steps) >= draw.integers(1, steps + 1, size=(users, 1))
        for name in ("kinds", "channels", "types", "ages", "delays", "items"):
            made[f"{sequence}_{name}"][padding] = 0
    return made


def logits(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of probabilities; finite for the zeros of heads that aren't trained."""
    exact = np.clip(scores.astype(np.float64), 1e-12, 1 - 1e-12)
    found: NDArray[np.float64] = np.log(exact / (1 - exact))
    return found
