"""The shared memory of Triton's model processes, told apart by the server they belong to.

Triton's Python backend gives each model process a region of a megabyte or more in /dev/shm, which
stays there when the processes are killed. A server of ours claims a prefix for the names of its
regions, by a lock on a file of that name; the lock goes with the last process that holds it, so
that a later server sees which regions nobody uses any more.
"""

import fcntl
import os
import secrets
from pathlib import Path

FOLDER = Path("/dev/shm")
_OURS = "heliograph_triton_"
_LOCK = "lock"


def claim(folder: Path = FOLDER) -> str:
    """A prefix for the regions of this process. It stays claimed, also by the program that this
    process becomes, until that and the processes that it started have ended."""
    while True:
        prefix = f"{_OURS}{secrets.token_hex(8)}_"
        file = os.open(folder / f"{prefix}{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_nlink:  # else it was swept before it was locked
            os.set_inheritable(file, True)
            return prefix
        os.close(file)


def sweep(folder: Path = FOLDER) -> int:
    """Remove the regions of servers of ours whose processes have all ended; how many."""
    return sum(_swept(lock) for lock in folder.glob(f"{_OURS}*_{_LOCK}"))


def _swept(lock: Path) -> int:
    try:
        file = os.open(lock, os.O_RDWR)
    except (FileNotFoundError, PermissionError):  # swept by another, or another user's
        return 0
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    else:
        regions = set(lock.parent.glob(f"{lock.name.removesuffix(_LOCK)}*")) - {lock}
        for path in (*regions, lock):
            path.unlink(missing_ok=True)
        return len(regions)
    finally:
        os.close(file)
