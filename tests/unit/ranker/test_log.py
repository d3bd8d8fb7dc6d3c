"""The training log keeps examples, and says what is wrong with a file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.ranker.features import HEADS, Head, model_inputs
from services.ranker.training.log import (
    Examples,
    LogContents,
    LogError,
    LogWriter,
    read_log,
    write_log,
)
from tests.unit.ranker.made_log import made_log


def test_examples_come_back(tmp_path: Path) -> None:
    examples, items = made_log(users=7, days=5)
    path = tmp_path / "log.parquet"
    with LogWriter(path, items) as writer:
        writer.write(examples.take(np.arange(20, 35)))
        writer.write(examples.take(np.arange(20)))
    assert writer.row_count == 35
    read, contents = read_log([path])
    order = np.lexsort((np.array(examples.decision_id), examples.time))
    expected = examples.take(order)
    assert read.decision_id == expected.decision_id
    np.testing.assert_array_equal(read.labels, expected.labels)
    wanted = model_inputs(expected.users, expected.events, np.arange(35), items)
    found = model_inputs(read.users, read.events, np.arange(35), contents)
    for name, array in wanted.items():
        np.testing.assert_array_equal(array, found[name], err_msg=name)


def test_content_is_written_once(tmp_path: Path) -> None:
    examples, items = made_log(users=5, days=6)
    with LogWriter(tmp_path / "log.parquet", items) as writer:
        for row in range(len(examples)):
            writer.write(examples.take(np.array([row])))
    refs = pq.read_table(tmp_path / "log.parquet")["content_ref"].drop_null().to_pylist()
    assert len(refs) == len(set(refs)) > 0


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "log.parquet"
    examples, items = made_log(users=2, days=2)
    write_log(path, examples, items)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        table = pq.read_table(path).replace_schema_metadata({"heliograph_features": "older"})
        pq.write_table(table, path)
    with pytest.raises(LogError, match=r"log\.parquet"):
        read_log([path])


def broken(examples: Examples, damage: str) -> Examples:
    """Examples whose row 3 breaks a rule."""
    probability, labels = examples.log_probability.copy(), examples.labels.copy()
    segment, kinds = examples.users["segment"].copy(), examples.users["send_kinds"].copy()
    decisions = list(examples.decision_id)
    match damage:
        case "log_probability":
            probability[3] = 0
        case "a label":
            labels[3, 0] = 2
        case "email_click":
            labels[3, HEADS.index(Head.EMAIL_CLICK)] = 0
        case "segment":
            segment[3] = 99
        case "send_kinds":
            kinds[3, 5] = 99
        case "twice":
            decisions[2] = decisions[3]
    users = {**examples.users, "segment": segment, "send_kinds": kinds}
    return replace(
        examples, decision_id=decisions, log_probability=probability, labels=labels, users=users
    )


@pytest.mark.parametrize(
    "damage", ["log_probability", "a label", "email_click", "segment", "send_kinds", "twice"]
)
def test_a_row_that_breaks_a_rule_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "log.parquet"
    examples, items = made_log(users=3, days=3)
    write_log(path, broken(examples, damage), items)
    with pytest.raises(LogError, match=damage) as caught:
        read_log([path])
    assert examples.decision_id[3] in str(caught.value)


@pytest.mark.parametrize("damage", ["null", "length", "column"])
def test_other_columns_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "log.parquet"
    examples, items = made_log(users=3, days=3)
    write_log(path, examples, items)
    table = pq.read_table(path)
    lists = table["labels"].to_pylist()
    if damage == "null":
        lists[-1][0] = None
    elif damage == "length":
        lists[-1].pop()
    place = table.column_names.index("labels")
    if damage == "column":
        table = table.remove_column(place)
    else:
        column = pa.array(lists, table.schema.field("labels").type)
        table = table.set_column(place, table.schema.field("labels"), column)
    pq.write_table(table, path)
    with pytest.raises(LogError, match=r"log\.parquet"):
        read_log([path])


def test_missing_content_is_an_error() -> None:
    contents = LogContents(np.array([5]), np.zeros((1, 128), np.float32))
    with pytest.raises(LogError):
        contents.vectors(np.array([4]))
    with pytest.raises(LogError):
        contents.vectors(np.array([6]))
