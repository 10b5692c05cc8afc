"""The bytes of a file that SQLite has open in this process, read without breaking its locks.

POSIX drops all of a process's locks on a file when the process closes any descriptor of it. So a descriptor of ours is
closed only when no SQLite connection of this process is left on that file.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from pathlib import Path
from typing import TypeAlias

FileKey: TypeAlias = tuple[int, int]

_guard = threading.Lock()
_connections: Counter[FileKey] = Counter()
_parked: dict[FileKey, list[int]] = {}


def connection_opens(path: Path) -> FileKey:
    """Say, before it is opened, that SQLite will have this file open."""
    with _guard:
        status = path.stat()
        key = (status.st_dev, status.st_ino)
        _connections[key] += 1
        return key


def connection_closed(key: FileKey) -> None:
    """Say that one connection has been closed."""
    with _guard:
        _connections[key] -= 1
        if not _connections[key]:
            del _connections[key]
            for fd in _parked.pop(key, ()):
                os.close(fd)


def hash_file(path: Path) -> str:
    """BLAKE2b of a file's bytes, in hexadecimal."""
    digest = hashlib.blake2b(digest_size=32)
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        while piece := os.read(fd, 1 << 20):
            digest.update(piece)
    finally:
        with _guard:
            status = os.fstat(fd)
            key = (status.st_dev, status.st_ino)
            if _connections[key]:
                _parked.setdefault(key, []).append(fd)
            else:
                os.close(fd)
    return digest.hexdigest()
