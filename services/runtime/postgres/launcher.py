"""Starts and stops the embedded Postgres server.

Folder layout (`data_dir` is the state folder that the caller names):

    owner.lock   locked by the living owner, holds its process id
    password     of the superuser, readable to the owner only
    server.log   what initdb and the server print
    cluster/     belongs to the user that Postgres runs as: data/ and socket/

The server dies with its owner, whatever ends the owner: see child.py.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from services.runtime.postgres import child
from services.runtime.postgres.placement import (
    AlreadyRunning,
    PostgresError,
    choose_account,
    find_programs,
    place_home,
    place_socket,
    remove_home,
)

SUPERUSER = "postgres"
INITIALISE_SECONDS = 120.0
START_SECONDS = 60.0  # recovery after a crash included
STOP_SECONDS = 20.0
POLL_SECONDS = 0.01
READY_LINE = 7  # of postmaster.pid

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "max_locks_per_transaction": "256",  # a transaction may touch many day partitions
    "jit": "off",  # batches are short; compiling costs more than it saves
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres:
    """One server on one data folder, owned by this process.

    `with EmbeddedPostgres(folder) as server:` starts it, creating it at first, and stops it at the
    end; the data stays. As root the server runs as `user` (an existing one), else as the owner of
    the data, else as `nobody`.

    Raises AlreadyRunning when another live process owns the folder's server, PostgresError when
    the server can't be set up or started.
    """

    def __init__(self, data_dir: Path, *, user: str | None = None) -> None:
        self._state = data_dir.absolute()
        self._home = self._state / "cluster"
        self._user = user
        self._lock: int | None = None
        self._socket: Path | None = None
        self._password = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Process id of the running postmaster, None when there is none."""
        return _postmaster(self._home / "data")

    def url(self, database: str = "postgres") -> str:
        """Superuser's libpq URL of a database, over the unix socket."""
        if self._socket is None:
            raise PostgresError("the embedded Postgres server is not started")
        host = quote(str(self._socket), safe="")
        return f"postgresql://{SUPERUSER}:{self._password}@/{database}?host={host}"

    def start(self) -> None:
        """Take the folder, wait for a former server to end, and start ours."""
        self._take_lock()
        try:
            self._start_locked()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server (fast shutdown: open transactions roll back) and let go of the folder."""
        if self._lock is None:
            return
        _end_postmaster(self._home / "data")
        if self._process is not None:
            self._ended.wait(STOP_SECONDS)
        self._process = self._socket = None
        os.close(self._lock)
        self._lock = None

    def remove(self) -> None:
        """Stop, then delete the data, wherever it was placed."""
        self.stop()
        remove_home(self._home)
        for name in ("password", "server.log", "owner.lock"):
            (self._state / name).unlink(missing_ok=True)

    def _take_lock(self) -> None:
        if self._lock is not None:
            raise AlreadyRunning(f"already running, owned by pid {os.getpid()} (this process)")
        try:
            self._state.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._state / "owner.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise PostgresError(f"can't use the data folder {self._state}: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 32).decode().strip() or "unknown"
            os.close(lock)
            raise AlreadyRunning(
                f"the Postgres server of {self._state} is already running, owned by pid {owner}"
            ) from None
        os.truncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def _start_locked(self) -> None:
        account = choose_account(self._home, self._user)
        home = place_home(self._home, account)
        _end_postmaster(home / "data")
        programs = find_programs(account)
        socket = place_socket(home, account)
        identity = (str(account.uid), str(account.gid))
        if not (home / "data").exists():
            self._initialise(home, programs, identity)
        self._password = self._read_password()
        settings = SETTINGS | {"unix_socket_directories": str(socket)}
        command = [str(programs / "postgres"), "-D", str(home / "data")]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self._spawn(command, identity, home)
        self._await_ready(home / "data")
        self._socket = socket

    def _initialise(self, home: Path, programs: Path, identity: Sequence[str]) -> None:
        """Create the cluster beside its final place, so that a cut-off try leaves none behind.

        The name is new each time: a cut-off initdb may still be removing its own folder.
        """
        for left in home.glob("new-*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = home / f"new-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        fresh, password = folder / "data", folder / "password"
        secret = secrets.token_urlsafe(32)
        _write_private(self._state / "password", secret)
        _write_private(password, secret)
        for path in (folder, password):
            os.chown(path, int(identity[0]), int(identity[1]))
        command = [str(programs / "initdb"), "-D", str(fresh), "-U", SUPERUSER]
        command += [f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        command += ["--no-instructions"]
        self._spawn(command, identity, home)
        self._ended.wait(INITIALISE_SECONDS)
        if self._process is None or self._process.returncode != 0:
            raise PostgresError(f"initdb failed:\n{self._log_tail()}")
        fresh.rename(home / "data")
        shutil.rmtree(folder)

    def _read_password(self) -> str:
        try:
            return (self._state / "password").read_text()
        except OSError as error:
            raise PostgresError(
                f"the superuser's password can't be read ({error}): put the file back, or remove "
                f"{self._state} with all its data"
            ) from error

    def _spawn(self, command: Sequence[str], identity: Sequence[str], home: Path) -> None:
        """Start a program as a child of a thread that waits for it.

        The kernel takes the end of the thread that forked, not of the process, for the parent's
        death: so that thread has to live as long as the program does.
        """
        shim = [sys.executable, "-I", "-S", child.__file__, str(os.getpid()), *identity]
        born = threading.Event()
        self._ended = ended = threading.Event()
        self._process = None
        failures: list[OSError] = []

        def keep() -> None:
            log = os.open(self._state / "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
            try:
                self._process = subprocess.Popen(
                    [*shim, *command],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd=home,
                    env={"PATH": os.defpath, "LC_ALL": "C"},  # none of PGDATA, PGPORT, …
                    start_new_session=True,  # the terminal's Ctrl-C is for us, not for the server
                )
            except OSError as error:
                failures.append(error)
            finally:
                os.close(log)
                born.set()
            if self._process is not None:
                _wait(self._process)
            ended.set()

        threading.Thread(target=keep, name="embedded-postgres", daemon=True).start()
        born.wait()
        if failures:
            raise PostgresError(f"{sys.executable} can't be started: {failures[0]}")

    def _await_ready(self, data: Path) -> None:
        def ready() -> bool:
            lines = _pid_file(data)
            return len(lines) > READY_LINE and lines[READY_LINE].strip() == "ready"

        _until(lambda: ready() or self._ended.is_set(), START_SECONDS)
        if self._ended.is_set() or not ready():
            raise PostgresError(f"Postgres did not start:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        lines = (self._state / "server.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-15:])


def _wait(process: subprocess.Popen[bytes]) -> None:
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _postmaster(data: Path) -> int | None:
    """Process id of the live postmaster of a data folder.

    A pid file may outlive its server and its number may be another process's by now, so the
    process has to be a server of this very folder.
    """
    lines = _pid_file(data)
    if not lines or not lines[0].strip().isdigit():
        return None
    pid = int(lines[0])
    return pid if str(data.resolve()) in _command(pid) else None


def _command(pid: int) -> Sequence[str]:
    """Arguments of a process, empty when there is none."""
    if sys.platform.startswith("linux"):
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return []
    command = ["ps", "-o", "command=", "-p", str(pid)]
    shown = subprocess.run(command, check=False, capture_output=True, text=True)
    return shown.stdout.split()


def _end_postmaster(data: Path) -> None:
    """End the folder's server, ours or one left by a killed owner, and clear its stale pid file.

    Fast shutdown first, then immediate (crash recovery at the next start). Only the holder of the
    owner's lock may call it.
    """
    for number in (signal.SIGINT, signal.SIGQUIT):
        pid = _postmaster(data)
        if pid is None:
            break
        _signal(pid, number)
        if _until(lambda: _postmaster(data) is None, STOP_SECONDS):
            break
    else:
        raise PostgresError(f"the former Postgres server of {data} (pid {pid}) does not end")
    (data / "postmaster.pid").unlink(missing_ok=True)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
