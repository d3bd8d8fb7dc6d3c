"""Putting features together into the inputs of the model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.items import CONTENT_DIMENSIONS, Contents
from services.ranker.features.schema import (
    EVENT_FEATURES,
    SEQUENCES,
    STEPS,
    USER_FEATURES,
    Features,
)

_REFS = tuple(spec.name for spec in (*USER_FEATURES, *EVENT_FEATURES) if spec.is_ref)
_PER_STEP = tuple(spec.name for spec in USER_FEATURES if spec.shape == (STEPS,))


def rows(features: Features, index: NDArray[np.integer[Any]] | slice) -> Features:
    """The given rows of every array."""
    return {name: array[index] for name, array in features.items()}


def concatenate(parts: Sequence[Features]) -> Features:
    """Features of several batches, one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def model_inputs(
    users: Features, events: Features, user_row: NDArray[np.integer[Any]], contents: Contents
) -> Features:
    """Inputs of the model for U users and N events; `user_row` [N] (int32) gives each event its
    user. See `resolve` for the rest."""
    inputs = resolve({**users, **events}, contents)
    inputs["user_row"] = np.asarray(user_row, np.int32)
    return inputs


def content_refs(features: Features) -> NDArray[np.int64]:
    """The distinct content references in these arrays, ascending, without 0."""
    parts = [features[name].ravel() for name in _REFS if name in features]
    distinct = np.unique(np.concatenate(parts))
    found: NDArray[np.int64] = distinct[distinct != 0]
    return found


def resolve(features: Features, contents: Contents) -> Features:
    """The features with content in place of references to it.

    Adds `items` [I, 128], the distinct content vectors with zeros in row 0, of which references
    become rows (int32). Sequences are trimmed to the longest one, at least one step: how many
    padding steps there are changes no score.
    """
    resolved = dict(features)
    distinct = content_refs(features)
    resolved["items"] = np.concatenate(
        [np.zeros((1, CONTENT_DIMENSIONS), np.float32), contents.vectors(distinct)]
    )
    for name in [name for name in _REFS if name in features]:
        index = np.searchsorted(distinct, features[name]) + 1
        resolved[name] = np.where(features[name] == 0, 0, index).astype(np.int32)
    longest = max(1, *(int((features[f"{name}_kinds"] > 0).sum(1).max()) for name in SEQUENCES))
    for name in _PER_STEP:
        resolved[name] = resolved[name][:, :longest]
    return resolved
