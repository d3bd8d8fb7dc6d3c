"""Becomes a Postgres program: drops root, ties its life to the parent's, then executes.

Run as a script by the launcher, in a fresh interpreter without site packages, so that nothing
happens between fork and exec of a process that has threads:

    python -I -S child.py PARENT_PID UID GID PROGRAM [ARGUMENT ...]

On Linux the kernel sends SIGINT (Postgres: fast shutdown) when the parent ends, however it ends.
Elsewhere this process stays as a guard: it reads its standard input, a pipe whose other end only
the parent holds, and passes SIGINT on when the pipe closes.
"""

import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1
GUARD_POLL_SECONDS = 0.2


def drop_root(uid: int, gid: int) -> None:
    """Take the given identity for good, supplementary groups included."""
    if os.geteuid() != uid:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGINT at the parent's death; changing the user would clear it again."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the request above
        sys.exit(1)


def guard(command: list[str]) -> int:
    """Run the command as a child, stop it when standard input closes, return its exit status."""
    child = os.fork()
    if child == 0:
        os.execv(command[0], command)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, lambda received, _frame: os.kill(child, received))
    watched = [sys.stdin.fileno()]
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) & 0xFF
        readable, _, _ = select.select(watched, [], [], GUARD_POLL_SECONDS)
        if readable and not os.read(watched[0], 1):
            watched = []
            os.kill(child, signal.SIGINT)


def run(arguments: list[str]) -> int:
    """Drop root, arrange the end, become the program."""
    parent, uid, gid = (int(argument) for argument in arguments[:3])
    command = arguments[3:]
    os.umask(0o077)
    drop_root(uid, gid)
    if sys.platform.startswith("linux"):
        die_with_parent(parent)
        os.execv(command[0], command)
    return guard(command)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
