"""What tests that kill processes share."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="finds the processes in /proc"
)


def process_of(service: str, state_dir: Path) -> int:
    """Process id of the service that keeps its state in this folder."""
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes().split(b"\0")
            if command[1:3] != [b"-m", f"services.{service}".encode()]:
                continue
            if f"HELIOGRAPH_STATE_DIR={state_dir}".encode() in (folder / "environ").read_bytes():
                return int(folder.name)
    raise AssertionError(f"{service} does not run")


def count(database: psycopg.Connection[Any], query: str) -> int:
    """The only value of a query."""
    row = database.execute(query).fetchone()
    assert row is not None
    return int(row[0])
