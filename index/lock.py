"""One writer a collection. The operating system holds the lock, so a killed writer leaves none behind."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

from mmseek.errors import CollectionLocked
from mmseek.index.durable import write_all

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NAME = "LOCK"
# Windows locks ranges of bytes and hides them from others: lock one far behind what the file says of its holder.
_BYTE = 1 << 20


class WriterLock:
    """The exclusive right to write to a collection; readers never ask for it.

    Raises:
        CollectionLocked: another writer, in this process or elsewhere, has it; says which process on which host.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / NAME
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        try:
            acquire(self._fd)
        except (BlockingIOError, PermissionError):
            holder = _holder(self._fd)
            os.close(self._fd)
            raise CollectionLocked(
                f"{folder} is being written by {holder}: wait until it has ended, or write to another collection"
            ) from None
        try:
            os.ftruncate(self._fd, 0)
            write_all(self._fd, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        except OSError:
            os.close(self._fd)  # on a full disk nobody is to be locked out by a writer that never was
            raise

    def release(self) -> None:
        """Give the right back; the file stays, since removing it would race with the next writer."""
        os.ftruncate(self._fd, 0)
        unlock(self._fd)
        os.close(self._fd)


class BorrowedLock(WriterLock):
    """The right to write to a folder that the caller holds already, and will give back itself."""

    def __init__(self) -> None:
        """Nothing is locked."""

    def release(self) -> None:
        """Nothing is given back."""


if sys.platform == "win32":

    def acquire(fd: int) -> None:
        """Take the lock of an open file or raise PermissionError."""
        os.lseek(fd, _BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        os.lseek(fd, 0, os.SEEK_SET)

    def unlock(fd: int) -> None:
        """Drop the lock."""
        os.lseek(fd, _BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:

    def acquire(fd: int) -> None:
        """Take the lock of an open file or raise BlockingIOError."""
        # flock belongs to the open file, so that a second writer in the same process is refused too, and closing
        # some other descriptor of the file does not drop it (as it would with POSIX record locks).
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def unlock(fd: int) -> None:
        """Drop the lock, also where a child process has inherited the open file."""
        fcntl.flock(fd, fcntl.LOCK_UN)


def _holder(fd: int) -> str:
    try:
        owner = json.loads(os.read(fd, 4096))
        return f"process {owner['pid']} on host {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
