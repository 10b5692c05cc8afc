"""Folders and files that appear whole or not at all: made under another name beside it, then renamed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmseek.errors import InputError
from mmseek.index import lock
from mmseek.index.durable import make_folder, storage_errors, sync_folder

ENDING = ".partial"


def check_absent(target: Path, what: str) -> None:
    """Refuse to write over anything but an empty folder.

    Raises:
        InputError: something is there.
    """
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        raise InputError(f"{target} exists already: give {what} a new name")


@contextmanager
def draft_folder(target: Path, *, keep_lock: bool = True) -> Iterator[Path]:
    """An empty folder that becomes `target` when the block ends well; what a killed run left of it is removed first.

    Args:
        target: new, or an empty folder.
        keep_lock: leave the file of the lock, which a collection has and an export has not.

    Raises:
        InputError: there is something at `target`.
        CollectionLocked: another process is making the same.
        StorageError: the disk is full, read-only or failing.
    """
    check_absent(target, "the copy")
    draft = target.with_name(target.name + ENDING)
    with storage_errors(target):
        make_folder(target.parent)
        draft.mkdir(exist_ok=True)
        # The lock stands inside and goes with the folder, so that a killed run holds nothing.
        try:
            right = lock.WriterLock(draft)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    try:
        with storage_errors(target):
            _empty(draft, keep=lock.NAME)
            yield draft
            check_absent(target, "the copy")
            if target.is_dir():
                target.rmdir()
            draft.rename(target)
            if not keep_lock:
                (target / lock.NAME).unlink()
            sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    finally:
        right.release()


def _empty(folder: Path, keep: str) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != keep:
            path.unlink()
