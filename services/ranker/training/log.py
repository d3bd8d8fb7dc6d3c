"""The training log: a Parquet file with one row per decision.

Columns of a decision's row:

- `decision_id`, `user_id`: texts; `time`: when it was decided, in seconds since 1970 UTC;
- `channel`: 0 nothing sent, 1 push, 2 e-mail, 3 in-app;
- `log_probability`: probability in (0, 1] with which the row was logged; its inverse is the row's
  weight in training and metrics;
- `labels`: one per head, in the order of HEADS: 1 it happened within the head's window, 0 it did
  not, -1 masked (another channel's head, a window still open, nothing known);
- one column per array of USER_FEATURES and EVENT_FEATURES, flattened, as they were at the decision.
  Where nothing was sent the event's arrays are 0.

Item content is referred to by `content_ref`. Each content that rows refer to has a row of its own,
before them, with `content_ref` and `content_vector` set and all other columns null.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from services.ranker.features.batch import concatenate, content_refs, model_inputs, rows
from services.ranker.features.items import CONTENT_DIMENSIONS, Contents
from services.ranker.features.schema import (
    EVENT_FEATURES,
    USER_FEATURES,
    Features,
    FeatureSpec,
    empty,
    schema_hash,
)
from services.ranker.features.vocabulary import HEADS
from services.ranker.training.checks import wrong_rows

MASKED = -1
_SPECS = (*USER_FEATURES, *EVENT_FEATURES)
_SCHEMA_KEY = b"heliograph_features"


class LogError(Exception):
    """A file that is no training log, or one of other features; says which and why."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows of the log as arrays, all of the same length n."""

    decision_id: Sequence[str]
    user_id: Sequence[str]
    time: NDArray[np.int64]
    channel: NDArray[np.int8]
    log_probability: NDArray[np.float32]
    labels: NDArray[np.int8]
    """[n, heads]; see `unlabelled`."""
    users: Features
    """USER_FEATURES [n, …]."""
    events: Features
    """EVENT_FEATURES [n, …]; `no_event(n)` for rows where nothing was sent."""

    def __len__(self) -> int:
        return len(self.time)

    @property
    def weights(self) -> NDArray[np.float64]:
        """The inverse of the probability with which each row was logged [n]."""
        return 1.0 / self.log_probability.astype(np.float64)

    @property
    def user_count(self) -> int:
        """How many users have rows."""
        return len(set(self.user_id))

    @property
    def span(self) -> list[str]:
        """When the first and the last decision was made, in RFC 3339."""
        times = (int(self.time.min()), int(self.time.max()))
        return [datetime.fromtimestamp(time, UTC).isoformat() for time in times]

    def inputs(self, index: NDArray[np.int64], contents: Contents) -> Features:
        """The model's inputs for the rows at these positions, each with a user of its own."""
        users, events = rows(self.users, index), rows(self.events, index)
        return model_inputs(users, events, np.arange(len(index)), contents)

    def take(self, index: NDArray[np.integer[Any]]) -> "Examples":
        """The rows at these positions."""
        return Examples(
            [self.decision_id[i] for i in index.tolist()],
            [self.user_id[i] for i in index.tolist()],
            self.time[index],
            self.channel[index],
            self.log_probability[index],
            self.labels[index],
            rows(self.users, index),
            rows(self.events, index),
        )


def unlabelled(count: int) -> NDArray[np.int8]:
    """Labels [count, heads], all masked; set `labels[row, HEADS.index(Head.PUSH_OPEN)] = 1`."""
    return np.full((count, len(HEADS)), MASKED, np.int8)


def no_event(count: int) -> Features:
    """Event features of decisions that sent nothing."""
    return {spec.name: empty(spec, count) for spec in EVENT_FEATURES}


class LogContents:
    """Content vectors of a log, by reference."""

    def __init__(self, refs: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        order = np.argsort(refs)
        self._refs, self._vectors = refs[order], vectors[order]

    def vectors(self, refs: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors [n, 128] of references [n]. Raises LogError for one the log does not hold."""
        if not len(refs):
            return np.zeros((0, CONTENT_DIMENSIONS), np.float32)
        at = np.minimum(np.searchsorted(self._refs, refs), max(0, len(self._refs) - 1))
        if not len(self._refs) or not np.array_equal(self._refs[at], refs):
            raise LogError("the log refers to item content that it does not hold")
        return self._vectors[at]


class LogWriter:
    """Writes a log in batches; a context manager that finishes the file at the end.

    `contents` gives the vectors of the references in the examples, each asked for once.
    """

    def __init__(self, sink: Path | BinaryIO, contents: Contents) -> None:
        self._writer = pq.ParquetWriter(sink, _schema(), compression="zstd")
        self.contents = contents
        """May be replaced between writes by what holds the next examples' content."""
        self._written: set[int] = set()
        self.row_count = 0
        """Decisions written so far."""

    def write(self, examples: Examples) -> None:
        """Append examples, preceded by the item content they are the first to refer to."""
        if not len(examples):
            return
        self._write_contents(examples)
        columns: dict[str, Any] = {
            "decision_id": list(examples.decision_id),
            "user_id": list(examples.user_id),
            "time": examples.time,
            "channel": examples.channel,
            "log_probability": examples.log_probability,
            "labels": _lists(examples.labels, "int8"),
        }
        features = {**examples.users, **examples.events}
        for spec in _SPECS:
            columns[spec.name] = _column(spec, features[spec.name])
        self._write(columns, len(examples))
        self.row_count += len(examples)

    def note(self, notes: Mapping[str, str]) -> None:
        """Add texts by name to the file's metadata, such as what made it."""
        self._writer.add_key_value_metadata(dict(notes))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write_contents(self, examples: Examples) -> None:
        used = content_refs({**examples.users, **examples.events})
        fresh = sorted(set(used.tolist()) - self._written)
        if fresh:
            vectors = self.contents.vectors(np.array(fresh, np.int64))
            columns = {"content_ref": fresh, "content_vector": _lists(vectors, "float32")}
            self._write(columns, len(fresh))
            self._written.update(fresh)

    def _write(self, columns: dict[str, Any], count: int) -> None:
        schema = _schema()
        arrays = [
            pa.array(columns[field.name], field.type)
            if field.name in columns
            else pa.nulls(count, field.type)
            for field in schema
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def write_log(path: Path, examples: Examples, contents: Contents) -> None:
    """Write a whole log at once."""
    with LogWriter(path, contents) as writer:
        writer.write(examples)


def read_log(paths: Sequence[Path]) -> tuple[Examples, LogContents]:
    """All rows of the logs in `paths`, in order of time, and the item content they refer to.

    Raises LogError with the name of a file that can't be used, and what is wrong with it; see
    `checks` for what rows must keep.
    """
    parts: list[Examples] = []
    refs: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    vectors: list[NDArray[np.float32]] = [np.zeros((0, CONTENT_DIMENSIONS), np.float32)]
    for path in paths:
        try:
            for table in _tables(path):
                is_content = table["content_ref"].is_valid()
                content = table.filter(is_content)
                refs.append(content["content_ref"].to_numpy())
                vectors.append(_numpy(content["content_vector"], (CONTENT_DIMENSIONS,)))
                if len(content) < len(table):
                    parts.append(_examples(table.filter(table["content_ref"].is_null())))
        except ValueError as error:
            raise LogError(f"{path}: {error}") from error
    if not parts:
        raise LogError(f"{', '.join(map(str, paths))}: no decisions in the log")
    distinct, first = np.unique(np.concatenate(refs), return_index=True)
    contents = LogContents(distinct, np.concatenate(vectors)[first])
    return _ordered(parts), contents


def _tables(path: Path) -> Iterator[pa.Table]:
    try:
        file = pq.ParquetFile(path)
        found = (file.schema_arrow.metadata or {}).get(_SCHEMA_KEY, b"").decode()
        if found != schema_hash():
            raise LogError(f"{path}: features of version {found or 'none'}, not {schema_hash()}")
        if not file.schema_arrow.equals(_schema()):
            raise LogError(f"{path}: the columns are not those of a training log")
        for index in range(file.num_row_groups):
            yield file.read_row_group(index)
    except (pa.ArrowException, OSError) as error:
        raise LogError(f"{path}: not a whole Parquet file ({error})") from error


def _examples(table: pa.Table) -> Examples:
    """Decisions. Raises ValueError, naming the decision, for one that breaks a rule."""

    def features(specs: Sequence[FeatureSpec]) -> Features:
        return {spec.name: _numpy(table[spec.name], spec.shape) for spec in specs}

    for field in _schema():
        if table[field.name].null_count and not field.name.startswith("content_"):
            raise ValueError(f"a decision without {field.name}")
    examples = Examples(
        decision_id=_texts(table["decision_id"]),
        user_id=_texts(table["user_id"]),
        time=table["time"].to_numpy(),
        channel=table["channel"].to_numpy(),
        log_probability=table["log_probability"].to_numpy(),
        labels=_numpy(table["labels"], (len(HEADS),)),
        users=features(USER_FEATURES),
        events=features(EVENT_FEATURES),
    )
    arrays = {**examples.users, **examples.events}
    checked = wrong_rows(examples.channel, examples.log_probability, examples.labels, arrays)
    for wrong, rule in checked:
        if wrong.any():
            raise ValueError(f"decision {examples.decision_id[int(np.argmax(wrong))]!r}: {rule}")
    return examples


def _ordered(parts: list[Examples]) -> Examples:
    together = Examples(
        decision_id=[i for part in parts for i in part.decision_id],
        user_id=[i for part in parts for i in part.user_id],
        time=np.concatenate([part.time for part in parts]),
        channel=np.concatenate([part.channel for part in parts]),
        log_probability=np.concatenate([part.log_probability for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        users=concatenate([part.users for part in parts]),
        events=concatenate([part.events for part in parts]),
    )
    ids = np.array(together.decision_id)
    distinct, counts = np.unique(ids, return_counts=True)
    if len(distinct) < len(ids):
        raise LogError(f"decision {str(distinct[np.argmax(counts)])!r} stands in the logs twice")
    return together.take(np.lexsort((ids, together.time)))


def _schema() -> pa.Schema:
    fields: list[pa.Field[Any]] = [
        pa.field("decision_id", pa.string()),
        pa.field("user_id", pa.string()),
        pa.field("time", pa.int64()),
        pa.field("channel", pa.int8()),
        pa.field("log_probability", pa.float32()),
        pa.field("labels", pa.list_(pa.int8())),
        *(pa.field(spec.name, _type(spec)) for spec in _SPECS),
        pa.field("content_ref", pa.int64()),
        pa.field("content_vector", pa.list_(pa.float32())),
    ]
    return pa.schema(fields, metadata={_SCHEMA_KEY: schema_hash()})


def _type(spec: FeatureSpec) -> pa.DataType:
    kind = pa.from_numpy_dtype(np.dtype(spec.dtype))
    return pa.list_(kind) if spec.shape else kind


def _column(spec: FeatureSpec, array: NDArray[Any]) -> Any:
    if array.shape[1:] != spec.shape:
        raise ValueError(f"{spec.name}: rows of shape {array.shape[1:]}, not {spec.shape}")
    array = array.astype(spec.dtype, copy=False)
    return _lists(array, spec.dtype) if spec.shape else array


def _lists(array: NDArray[Any], dtype: str) -> Any:
    flat = np.ascontiguousarray(array, dtype).reshape(len(array), -1)
    offsets = np.arange(len(flat) + 1, dtype=np.int32) * flat.shape[1]
    values: pa.Array[Any] = pa.array(flat.ravel())
    return pa.ListArray.from_arrays(cast(pa.Int32Array, pa.array(offsets)), values)


def _texts(column: Any) -> list[str]:
    texts: list[str] = column.to_pylist()
    return texts


def _numpy(column: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    flat = column.combine_chunks()
    if shape:
        if (np.diff(flat.offsets.to_numpy()) != np.prod(shape)).any():
            raise ValueError(f"a list is not of the {np.prod(shape)} numbers it should have")
        flat = flat.flatten()
    if flat.null_count:
        raise ValueError("a null in a list of numbers")
    array: NDArray[Any] = flat.to_numpy(zero_copy_only=False)
    return array.reshape(-1, *shape)
