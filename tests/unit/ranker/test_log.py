"""The training log keeps examples, and says what is wrong with a file."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from services.ranker.features import model_inputs
from services.ranker.training.log import LogContents, LogError, LogWriter, read_log, write_log
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


def test_missing_content_is_an_error() -> None:
    contents = LogContents(np.array([5]), np.zeros((1, 64), np.float32))
    with pytest.raises(LogError):
        contents.vectors(np.array([4]))
    with pytest.raises(LogError):
        contents.vectors(np.array([6]))
