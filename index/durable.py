"""Bytes that stay on the disk: every write of this room that must survive a crash goes through here."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmseek.errors import StorageError

if sys.platform == "darwin":
    import fcntl

_FULL = {errno.ENOSPC, errno.EDQUOT}
_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def storage_errors(place: Path) -> Iterator[None]:
    """Turn what the operating system says about a failed write below `place` into one sentence.

    Raises:
        StorageError: the disk is full, read-only or failing.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            reason = "the disk is full, so nothing of this call was stored: free some space and run it again"
        elif error.errno in _NOT_WRITABLE:
            reason = "it is read-only for this user, so nothing was stored: make it writable or choose another folder"
        else:
            what = error.strerror or type(error).__name__
            reason = f"writing failed ({what}), so nothing of this call was stored: check the disk and run it again"
        raise StorageError(f"{place}: {reason}") from error


def sync(fd: int) -> None:
    """Wait until what was written to `fd` is on the medium. On macOS a plain fsync does not wait for that."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Windows has no such call and needs none."""
    if sys.platform == "win32":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        sync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, each of them durable."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data` at the file's position; the system may take it in several pieces."""
    left = memoryview(data).cast("B")
    while left:
        left = left[os.write(fd, left) :]


def write_file(path: Path, data: bytes) -> None:
    """Write a new file's bytes and make them durable; its name is durable after `sync_folder`."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o644)
    try:
        write_all(fd, data)
        sync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that at any instant either the old or the new content is there, then make it durable."""
    draft = path.with_name(path.name + ".tmp")
    try:
        write_file(draft, data)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def bytes_below(folder: Path) -> int:
    """What the files below a folder have in them."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue  # the writer's temporary file
    return total
