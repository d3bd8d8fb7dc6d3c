"""Social ties of users without interactions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from services.candidate.models import tie_lists
from services.cli.main import main

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)))


@given(PAIRS)
def test_lists_hold_oneself_and_whom_one_is_tied_to(pairs: list[tuple[int, int]]) -> None:
    ids = [f"u{row}" for row in range(6)]
    users, targets = np.array(pairs, np.int64).reshape(-1, 2).T
    for row, found in enumerate(tie_lists(ids, users, targets)):
        tied = [f"u{target}" for user, target in pairs if user == row]
        if tied or any(row == target for _, target in pairs):
            assert found == [f"u{row}", *tied]
        else:
            assert found is None


def test_a_newcomer_is_given_what_those_like_whom_she_follows(tmp_path: Path) -> None:
    """Two groups of users with items of their own, and one newcomer to each."""
    generator = np.random.default_rng(5)
    pairs = [
        (f"{group}-user-{user:02}", f"{group}-item-{item:02}")
        for group in ("a", "b")
        for user in range(30)
        for item in generator.choice(20, 8, replace=False)
    ]
    _write(tmp_path / "in.parquet", "user_id", "item_id", pairs)
    follows = [("new-a", "a-user-03"), ("new-a", "a-user-07"), ("new-b", "b-user-11")]
    _write(tmp_path / "ties.parquet", "user_id", "target_id", follows)
    pq.write_table(pa.table({"user_id": ["new-a", "new-b"]}), tmp_path / "ids.parquet")
    run = CliRunner()
    fit = ["--interactions", str(tmp_path / "in.parquet"), "--effort", "quick"]
    fit += ["--ties", str(tmp_path / "ties.parquet"), "--out", str(tmp_path / "model")]
    done = run.invoke(main, ["candidate", "fit", *fit])
    assert done.exit_code == 0, done.output
    asked = ["--model", str(tmp_path / "model"), "--direction", "items", "--count", "5"]
    asked += ["--ids", str(tmp_path / "ids.parquet"), "--out", str(tmp_path / "out.parquet")]
    done = run.invoke(main, ["candidate", "recommend", *asked])
    assert done.exit_code == 0, done.output
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["query_id"][-1], row["id"][0]) for row in found] == [
        (group, group) for group in "ab" for _ in range(5)
    ]


def _write(path: Path, first: str, second: str, pairs: list[tuple[str, str]]) -> None:
    ones, others = zip(*pairs, strict=True)
    pq.write_table(pa.table({first: list(ones), second: list(others)}), path)
