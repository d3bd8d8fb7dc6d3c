"""Items as features see them: a content vector per version, and how they did so far.

The content vector has two parts. Attributes: signed feature hashing (Weinberger et al., 2009,
arXiv:0902.2206) of type and attributes into 64 dimensions, of unit length. Text: the embedding that
candidate makes of the item's title and text, brought to 64 dimensions by a matrix of random signs
(Achlioptas, 2003, doi:10.1016/S0022-0000(03)00025-4), which keeps cosines within about .12 (one
standard deviation), and to unit length again; zeros as long as there is no embedding.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import shake_256
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.ranker.features.vocabulary import item_key, stable_key

ATTRIBUTE_DIMENSIONS = 64
TEXT_DIMENSIONS = 64
CONTENT_DIMENSIONS = ATTRIBUTE_DIMENSIONS + TEXT_DIMENSIONS

HISTORY = ("sends", "opens", "scored", "scores")
"""What is counted of an item over all users: sends; opens and clicks; sends whose event had a score
of its source; and the sum of these scores in `units`."""
SCORE_SCALE = 1e4
UNITS = 1e6

AttributeValue: TypeAlias = str | bool | int | float | Sequence[str] | Mapping[str, float]
Vector: TypeAlias = NDArray[np.float32]
ATTRIBUTE_WEIGHT = 2.0
"""How much more an attribute's value weighs than the type."""


def log_score(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores s of sources, mostly small probabilities, as log(1 + 10⁴ s) / log(1 + 10⁴)."""
    found: NDArray[np.float64] = np.log1p(SCORE_SCALE * scores) / np.log1p(SCORE_SCALE)
    return found


def units(score: float) -> int:
    """A log score in millionths: sums of whole numbers don't depend on their order."""
    return round(UNITS * float(log_score(np.array(score, np.float64))))


@dataclass(frozen=True, eq=False, slots=True)
class Embedding:
    """The vector of an item's text, of any length, and the model that made it."""

    model: str
    vector: NDArray[np.floating[Any]]


def content_ref(item_id: str, version: int, embedding: Embedding | None = None) -> int:
    """Names one version of an item's content, and what made its embedding. Never 0, which stands
    for no content."""
    model = embedding.model if embedding else ""
    return stable_key("content", item_id, str(version), model) or 1


def content_vector(
    item_type: str = "",
    attributes: Mapping[str, AttributeValue] | None = None,
    embedding: Embedding | None = None,
) -> Vector:
    """Both parts [128]; a part without any information is all 0.

    Texts and lists of texts are taken by value (`genres=Comedy`), numbers rounded to tens
    (`year=1990`), maps by name with their value's sign.
    """
    hashed = np.zeros(ATTRIBUTE_DIMENSIONS)
    if item_type:
        _add(hashed, f"type={item_type}", 1.0)
    for name, value in sorted((attributes or {}).items()):
        for text, weight in _values(value):
            _add(hashed, f"{name}={text}", ATTRIBUTE_WEIGHT * weight)
    text_part = np.zeros(TEXT_DIMENSIONS)
    if embedding is not None:
        text_part = embedding.vector.astype(np.float64) @ _signs(len(embedding.vector))
    return np.concatenate([_unit(hashed), _unit(text_part)]).astype(np.float32)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = float(np.linalg.norm(vector))
    unit: NDArray[np.float64] = vector / norm if norm > 0 else vector
    return unit


@lru_cache(maxsize=8)
def _signs(dimensions: int) -> NDArray[np.float64]:
    """−1 and 1, as good as random, the same everywhere [dimensions, 64]."""
    drawn = shake_256(f"text {dimensions}".encode()).digest(dimensions * TEXT_DIMENSIONS // 8)
    bits = np.unpackbits(np.frombuffer(drawn, np.uint8)).reshape(dimensions, TEXT_DIMENSIONS)
    return np.where(bits, 1.0, -1.0)


def _values(value: AttributeValue) -> Iterable[tuple[str, float]]:
    match value:
        case str() | bool():
            yield str(value).lower(), 1.0
        case int() | float():
            yield str(round(value / 10) * 10), 1.0
        case Mapping():
            for name in sorted(value):
                yield name, float(np.sign(value[name]))
        case _:
            for text in sorted(set(value)):
                yield text.lower(), 1.0


def _add(vector: NDArray[np.float64], token: str, weight: float) -> None:
    key = stable_key("token", token)
    sign = 1.0 if key >> 40 & 1 else -1.0
    vector[key % ATTRIBUTE_DIMENSIONS] += sign * weight


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """The current content of an item and its history over all users."""

    key: int
    ref: int
    vector: Vector
    history: Sequence[int] = (0,) * len(HISTORY)


class Contents(Protocol):
    """Content vectors by reference."""

    def vectors(self, refs: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors [n, 128] of references [n]; unknown references and 0 give zeros."""


class ItemTable:
    """The items known, in arrays that grow; looks up by key and by content reference."""

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._by_ref: dict[int, int] = {}
        self._refs = np.zeros(16, np.int64)
        self._vectors = np.zeros((16, CONTENT_DIMENSIONS), np.float32)
        self._history = np.zeros((16, len(HISTORY)), np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def put(
        self, item_id: str, version: int, vector: Vector, embedding: Embedding | None = None
    ) -> None:
        """Set an item's content, made with this embedding; its history stays."""
        row = self._row(item_key(item_id))
        self._set_content(row, content_ref(item_id, version, embedding), vector)

    def put_record(self, record: ItemRecord) -> None:
        """Set all that is known of an item."""
        row = self._row(record.key)
        self._set_content(row, record.ref, record.vector)
        self._history[row] = record.history

    def count(
        self, item_id: str, *, sends: int = 0, opens: int = 0, source_score: float = 0.0
    ) -> None:
        """Add to the history of an item; one without content is known by its history only."""
        self.add_history(item_id, (sends, opens, int(source_score > 0), units(source_score)))

    def add_history(self, item_id: str, added: Sequence[int]) -> None:
        """Add HISTORY [4] to that of an item."""
        self._history[self._row(item_key(item_id))] += np.asarray(added, np.int64)

    def refs(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Current content references of item keys, any shape; 0 where there is no content."""
        return self._refs[self._rows_of(self._rows, keys)]

    def history(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """HISTORY [..., 4] of item keys; 0 for unknown ones."""
        return self._history[self._rows_of(self._rows, keys)]

    def vectors(self, refs: NDArray[np.int64]) -> NDArray[np.float32]:
        """Content vectors [..., 128] of the current references; zeros for others."""
        return self._vectors[self._rows_of(self._by_ref, refs)]

    @staticmethod
    def _rows_of(rows: dict[int, int], keys: NDArray[np.int64]) -> NDArray[np.int64]:
        found = np.zeros(keys.shape, np.int64)
        there = keys != 0
        found[there] = [rows.get(key, 0) for key in keys[there].tolist()]
        return found

    def _row(self, key: int) -> int:
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = len(self._rows) + 1  # row 0 stays empty: no item
            if row == len(self._refs):
                self._refs = _doubled(self._refs)
                self._vectors = _doubled(self._vectors)
                self._history = _doubled(self._history)
        return row

    def _set_content(self, row: int, ref: int, vector: Vector) -> None:
        self._by_ref.pop(int(self._refs[row]), None)
        self._refs[row] = ref
        self._vectors[row] = vector
        if ref:
            self._by_ref[ref] = row


def _doubled(array: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([array, np.zeros_like(array)])
