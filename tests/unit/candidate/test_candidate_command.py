"""heliograph candidate: what it says of files that it can't use, and what it imports."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner

from services.cli import main


def test_interactions_that_cannot_be_fitted_are_named(tmp_path: Path) -> None:
    path, out = tmp_path / "disliked.parquet", tmp_path / "model"
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["i"], "weight": [-1.0]}), path)
    arguments = ["candidate", "fit", "--interactions", str(path), "--out", str(out)]
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == 1
    assert ended.output == f"Error: {path}: no interaction has a positive weight\n"
    assert not out.exists()


def test_a_command_imports_no_more_than_its_own() -> None:
    """What fits models takes seconds of a busy processor, before anything is told."""
    code = (
        "import atexit, sys; from services.cli import main; "
        "atexit.register(lambda: print('scipy' in sys.modules)); main()"
    )
    command = [sys.executable, "-c", code, "candidate", "generate", "--day", "never"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "'never' does not match" in done.stderr
    assert done.stdout == "False\n"
