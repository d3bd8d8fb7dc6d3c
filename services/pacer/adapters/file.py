"""The file channel: one JSON object per line, for e-mail gateways that pick files up, and to look
at. Several pacers may append to the same file."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from services.pacer.messages import Message, Outcome, Result

TAIL_BYTES = 64 * 2**20
_BLOCK_BYTES = 2**20
_FIELDS = [field.name for field in fields(Message)]


class FileAdapter:
    """Appends to a file and syncs it once per batch.

    Each delivery is written once: the ids of the last `remembered` lines are kept, read from the
    file's last 64 MiB at the start and from what others have appended since. A line that a crash
    cut short is removed before the next batch. What a file holds has left the system: a user's
    removal does not reach it.
    """

    name = "file"

    def __init__(self, path: Path, remembered: int) -> None:
        self._path = path
        self._remembered = remembered
        self._ids: dict[str, None] = {}
        self._read_to = 0
        self._inode: int | None = None
        self._lock = asyncio.Lock()

    async def deliver(self, messages: Sequence[Message]) -> list[Result]:
        """Append the batch. See Adapter. Raises OSError; then nothing of it is in the file."""
        async with self._lock:
            await asyncio.to_thread(self._append, messages)
        return [Result(message.delivery_id, Outcome.DELIVERED) for message in messages]

    def _append(self, messages: Sequence[Message]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            end = self._catch_up(descriptor)
            new = {
                message.delivery_id: message
                for message in messages
                if message.delivery_id not in self._ids
            }
            if new:
                data = b"".join(_line(message) for message in new.values())
                self._write(descriptor, data, end)
                self._read_to = end + len(data)
                self._remember(list(new))
        finally:
            os.close(descriptor)

    def _catch_up(self, descriptor: int) -> int:
        """Learn the ids appended since the last look; returns where to append."""
        status = os.fstat(descriptor)
        if status.st_ino != self._inode or status.st_size < self._read_to:  # rotated
            self._inode, self._read_to = status.st_ino, max(0, status.st_size - TAIL_BYTES)
        rest = b""
        while block := os.pread(descriptor, _BLOCK_BYTES, self._read_to + len(rest)):
            *lines, rest = (rest + block).split(b"\n")
            self._read_to += sum(len(line) + 1 for line in lines)
            self._remember([found for line in lines if (found := _id_of(line))])
        if rest:
            os.ftruncate(descriptor, self._read_to)
        return self._read_to

    def _write(self, descriptor: int, data: bytes, end: int) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, end)
            raise

    def _remember(self, ids: Sequence[str]) -> None:
        self._ids.update(dict.fromkeys(ids))
        for _ in range(len(self._ids) - self._remembered):
            del self._ids[next(iter(self._ids))]


def _line(message: Message) -> bytes:
    values = {name: getattr(message, name) for name in _FIELDS}
    values["deliver_time"] = message.deliver_time.isoformat()
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _id_of(line: bytes) -> str:
    """The delivery id of a line; empty for a line that is none of ours, or cut at the start."""
    try:
        return str(json.loads(line)["delivery_id"])
    except (ValueError, TypeError, KeyError):
        return ""
