"""Named statements from a queries.sql."""

import copy
from pathlib import Path

import pytest

from services.runtime.database import load_queries


def written(folder: Path, content: str) -> Path:
    path = folder / "queries.sql"
    path.write_text(content)
    return path


def test_statements_by_name_without_their_comments(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "-- Head of the file: nothing of it is a :parameter.\n\n"
        "-- name: insert_events\n-- One row for each of :these.\nINSERT INTO events\n"
        "  SELECT * FROM unnest(CAST(:ids AS text[]));\n\n"
        "-- name: count_events\nSELECT count(*) FROM events\n",
    )
    queries = load_queries(path)
    assert str(queries.count_events) == "SELECT count(*) FROM events"
    assert list(queries.insert_events.compile().params) == ["ids"]


def test_unknown_name_says_so(tmp_path: Path) -> None:
    queries = load_queries(written(tmp_path, "-- name: a\nSELECT 1\n"))
    with pytest.raises(AttributeError, match="no query named 'b'"):
        _ = queries.b


def test_a_copy_knows_the_same_statements(tmp_path: Path) -> None:
    queries = copy.copy(load_queries(written(tmp_path, "-- name: a\nSELECT 1\n")))
    assert str(queries.a) == "SELECT 1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("SELECT 1\n", "before the first"),
        ("-- name: a\n-- name: b\nSELECT 1\n", "no statement under a"),
        ("-- name: a\nSELECT 1\n-- name: a\nSELECT 2\n", "used twice"),
        ("-- name: not a name\nSELECT 1\n", "is no name"),
    ],
)
def test_malformed_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_queries(written(tmp_path, content))
