"""The guard that stands in for the kernel's parent-death signal where there is none."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.runtime.postgres import child

PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
print("up", flush=True)
signal.pause()
"""
GUARD = f"""
import sys
sys.path.insert(0, {str(Path(child.__file__).parent)!r})
import child
sys.exit(child.guard([sys.executable, "-c", {PROGRAM!r}]))
"""


@pytest.fixture
def guarded() -> subprocess.Popen[str]:
    """A guard whose program is up."""
    process = subprocess.Popen(
        [sys.executable, "-c", GUARD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_program_is_interrupted_when_the_owners_pipe_closes(
    guarded: subprocess.Popen[str],
) -> None:
    guarded.communicate(timeout=20)
    assert guarded.returncode == 7


def test_signals_are_passed_on(guarded: subprocess.Popen[str]) -> None:
    guarded.send_signal(2)
    guarded.wait(timeout=20)
    guarded.communicate()
    assert guarded.returncode == 7
