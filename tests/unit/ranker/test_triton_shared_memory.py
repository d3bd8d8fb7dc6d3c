"""Regions of shared memory go when the last process of their server has ended, not before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.triton.shared_memory import claim, sweep

SERVER = """
import os, sys
from pathlib import Path
from deploy.triton.shared_memory import claim

prefix = claim(Path(sys.argv[1]))
Path(sys.argv[1], prefix + "region").touch()
child = os.fork() or os.execlp("sleep", "sleep", "600")
os.execlp("sh", "sh", "-c", f"echo {child}; exec sleep 600")
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that claimed a prefix and became another program, with a child."""
    command = [sys.executable, "-c", SERVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_regions_of_a_killed_server_go_with_its_last_process(
    server: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert server.stdout is not None
    child = server.stdout.readline().strip()
    assert sweep(tmp_path) == 0
    server.kill()
    server.wait()
    assert sweep(tmp_path) == 0
    subprocess.run(["kill", "-9", child], check=True)
    assert server.stdout.read() == ""  # ends with the child
    assert sweep(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_regions_of_others_stay(tmp_path: Path) -> None:
    others = tmp_path / "triton_python_backend_shm_region_1"
    unclaimed = tmp_path / "heliograph_triton_0_region"
    others.touch()
    unclaimed.touch()
    prefix = claim(tmp_path)
    assert sweep(tmp_path) == 0
    assert {others, unclaimed, tmp_path / f"{prefix}lock"} == set(tmp_path.iterdir())


def test_each_claim_is_another(tmp_path: Path) -> None:
    assert claim(tmp_path) != claim(tmp_path)
