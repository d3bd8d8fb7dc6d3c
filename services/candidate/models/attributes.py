"""Attributes of users or content of items as sparse features, for those without interactions."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from scipy.sparse import csr_array, diags_array

from services.candidate.sources.arrays import Floats, Matrix, Rows, sparse

NEIGHBOURS = 50
LONG_TEXT = 24
"""Characters beyond which a text counts as words rather than as one value."""
BINS = 5
_WORD = re.compile(r"\w+")


class TextEmbedder(Protocol):
    """Turns texts into vectors of length one; the place for a sentence encoder."""

    def embed(self, texts: Sequence[str]) -> Floats:
        """len(texts) × dimensions."""


def features(columns: Mapping[str, Sequence[Any]], size: int) -> Matrix:
    """Rows × features of length one: values, members of lists, words of long texts, and ranges of
    numbers, each weighted by how rare it is. Empty values have none."""
    names: dict[str, int] = {}
    rows: list[int] = []
    places: list[int] = []
    for column, values in columns.items():
        for row, tokens in enumerate(_tokens(values)):
            for token in tokens:
                rows.append(row)
                places.append(names.setdefault(f"{column}={token}", len(names)))
    shape = (size, max(len(names), 1))
    ones: Floats = np.ones(len(rows), np.float32)
    table = sparse(ones, np.array(rows, np.int64), np.array(places, np.int64), shape)
    share = np.maximum(np.asarray(table.sum(axis=0)).ravel(), 1) / max(size, 1)
    weighted = csr_array(table @ diags_array(np.log(1 / share) + 0.1))
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    scaled: Matrix = csr_array(diags_array(1 / np.maximum(length, 1e-9)) @ weighted)
    return scaled.astype(np.float32)


def _tokens(values: Sequence[Any]) -> list[Sequence[str]]:
    known = [value for value in values if isinstance(value, int | float) and value == value]
    if known and not any(isinstance(value, bool) for value in known):
        edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
        return [
            [f"range {np.searchsorted(edges, value)}"] if isinstance(value, int | float) else []
            for value in values
        ]
    return [_of_value(value) for value in values]


def _of_value(value: Any) -> Sequence[str]:
    if value is None or value == "":
        return []
    if isinstance(value, list | tuple):
        return [str(member) for member in value]
    text = str(value)
    return sorted(set(_WORD.findall(text.lower()))) if len(text) > LONG_TEXT else [text]


def borrowed_profiles(table: Matrix, attributes: Matrix, cold: Rows, warm: Rows) -> Matrix:
    """Profiles for rows without interactions: the mean of those of the warm rows that are most
    alike in attributes, weighted by likeness."""
    likeness = np.asarray((attributes[cold] @ attributes[warm].T).todense(), np.float32)
    count = min(NEIGHBOURS, len(warm))
    if count == 0 or not len(cold):
        return sparse(np.empty(0, np.float32), cold[:0], cold[:0], (len(cold), table.shape[1]))
    near = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
    weight = np.take_along_axis(likeness, near, axis=1) ** 2
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), np.float32(1e-9))
    rows = np.repeat(np.arange(len(cold)), count)
    mix = sparse(weight.ravel(), rows, near.ravel(), (len(cold), len(warm)))
    found: Matrix = csr_array(mix @ table[warm])
    return found
