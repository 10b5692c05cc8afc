"""What a job is to read, made durable before the job exists: lines or files of a request, or a file of the server."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from mmseek.api.server.errors import InputGone, JobsFull
from mmseek.api.server.jobs.pictures import FolderPictures, NoPictures, Pictures, SentPictures
from mmseek.api.server.jobs.store import Job, JobStore
from mmseek.errors import InputError
from mmseek.index.durable import bytes_below, make_folder, storage_errors, sync, sync_folder

LINES: Final = "lines.jsonl"
_FILES: Final = "files"
_MOST_FINISHED: Final = 1000


class Inputs:
    """A folder with a folder for each job, within a bound of bytes.

    Args:
        folder: of them all.
        store: of the jobs.
        most_bytes: that all inputs may take, those that are coming in too; of finished jobs the oldest make room.
        root: the folder below which jobs may read what the server has; None for none.
    """

    def __init__(self, folder: Path, store: JobStore, most_bytes: int, root: Path | None) -> None:
        self._folder = folder
        self._store = store
        self._most = most_bytes
        self._root = None if root is None else root.expanduser().resolve()
        self._lock = threading.Lock()
        with storage_errors(folder):
            make_folder(folder)
        self._sweep()
        self._taken = bytes_below(folder)

    @property
    def bytes(self) -> int:
        """How many they take."""
        return self._taken

    @contextmanager
    def receiving(self, name: str) -> Iterator[Draft]:
        """A folder for a new job's input, removed again if the block fails."""
        draft = Draft(self._folder / name, self)
        try:
            with storage_errors(self._folder):
                make_folder(draft.folder)
            yield draft
        except BaseException:
            self._remove(name, draft.bytes)
            raise

    def reserve(self, count: int) -> None:
        """Take room for so many bytes.

        Raises:
            JobsFull: there is none, even without the inputs of finished jobs.
        """
        with self._lock:
            if self._taken + count > self._most:
                self._make_room(count)
            if self._taken + count > self._most:
                raise JobsFull(f"the inputs of jobs take {self._taken} bytes, and {self._most} are the most", 60)
            self._taken += count

    @property
    def root(self) -> Path:
        """The folder that the operator opened, without links.

        Raises:
            InputError: there is none.
        """
        if self._root is None:
            raise InputError("this server reads no files of its own: send the lines, or start it with --import-root")
        return self._root

    def place_of(self, path: str) -> Path:
        """A file or a folder below the folder that the operator opened.

        Raises:
            InputError: there is no such folder, or nothing of this path in it.
        """
        root = self.root
        try:
            found = (root / path).resolve()
            if found.is_relative_to(root) and (found.is_file() or found.is_dir()):
                return found
        except (OSError, ValueError):
            pass
        raise InputError(f"there is nothing at {path[:200]!r} below the folder of --import-root: give a path in there")

    def check(self, job: Job) -> None:
        """Refuse to go on with a job whose input is gone.

        Raises:
            InputGone: it is.
        """
        if job.reads_corpus:
            self.corpus_of(job)
        else:
            self.of(job)

    def corpus_of(self, job: Job) -> Path:
        """The folder or document that a job reads.

        Raises:
            InputGone: it is not there any more.
        """
        try:
            return self.place_of(job.source or "")
        except InputError as error:
            raise InputGone("what this job reads is not there any more: start a new job") from error

    def of(self, job: Job) -> tuple[Path, Pictures]:
        """The lines of a job and where its pictures are.

        Raises:
            InputGone: they are not there any more, or the file has changed.
        """
        if job.source is None:
            folder = self._folder / job.id
            if not job.kept or not (folder / LINES).is_file():
                raise InputGone("the input of this job is not kept any more: send it again as a new job")
            sent = folder / _FILES
            return folder / LINES, SentPictures(sent) if sent.is_dir() else NoPictures()
        try:
            path = self.place_of(job.source)
            facts = path.stat()
        except (InputError, OSError) as error:
            raise InputGone("the file of this job is not there any more: start a new job") from error
        if (facts.st_size, facts.st_mtime_ns) != (job.bytes, job.stamp):
            raise InputGone("the file of this job has changed since it began: start a new job")
        return path, FolderPictures(self.root, path.parent)

    def drop(self, job: Job) -> None:
        """Remove a job's own input."""
        if job.source is None and job.kept:
            self._store.input_gone(job)
            with self._lock:  # counted once, though the job may be forgotten while it ends
                self._clear(job)

    def tidy(self) -> None:
        """Forget finished jobs of which there are too many."""
        finished = self._store.finished()
        for job in finished[: max(len(finished) - _MOST_FINISHED, 0)]:
            self.drop(job)
            self._store.forget(job)

    def _make_room(self, count: int) -> None:
        for job in self._store.with_input(finished=True):
            if self._taken + count <= self._most:
                return
            self._store.input_gone(job)
            self._clear(job)

    def _clear(self, job: Job) -> None:
        """Remove a job's input; the lock is held."""
        size = bytes_below(self._folder / job.id)
        shutil.rmtree(self._folder / job.id, ignore_errors=True)
        self._taken = max(self._taken - size, 0)

    def _remove(self, name: str, size: int) -> None:
        shutil.rmtree(self._folder / name, ignore_errors=True)
        with self._lock:
            self._taken = max(self._taken - size, 0)

    def _sweep(self) -> None:
        """Remove what was coming in when the server ended: no job was made of it."""
        known = {job.id for job in [*self._store.with_input(finished=True), *self._store.with_input(finished=False)]}
        for folder in self._folder.iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)


class Draft:
    """An input that is coming in."""

    def __init__(self, folder: Path, inputs: Inputs) -> None:
        self.folder = folder
        self.bytes = 0
        self._inputs = inputs
        self._names: dict[str, str] = {}

    def open(self, name: str = LINES) -> BinaryIO:
        """A new file of it."""
        with storage_errors(self.folder):
            return (self.folder / name).open("xb")

    def write(self, file: BinaryIO, data: bytes) -> None:
        """Append bytes for which there is room.

        Raises:
            JobsFull: there is none.
            StorageError: the disk refuses it.
        """
        self._inputs.reserve(len(data))
        self.bytes += len(data)
        with storage_errors(self.folder):
            file.write(data)

    def close(self, file: BinaryIO) -> None:
        """End a file and make it durable."""
        with storage_errors(self.folder), file:
            file.flush()
            sync(file.fileno())

    def new_file(self, name: str) -> BinaryIO:
        """A file for a picture that was sent under this name, which is never a path here.

        Raises:
            InputError: the name is empty, or came before.
        """
        if not name or name in self._names:
            raise InputError(f"a file named {name[:100]!r} came twice or without a name: give each file its own name")
        self._names[name] = f"{len(self._names):06d}"
        folder = self.folder / _FILES
        folder.mkdir(exist_ok=True)
        return self.open(f"{_FILES}/{self._names[name]}")

    @property
    def names(self) -> list[str]:
        """Of the files so far."""
        return list(self._names)

    def finish(self) -> int:
        """Make the names durable; returns the bytes of the lines."""
        with storage_errors(self.folder):
            if self._names:
                names = self.open(f"{_FILES}/names.json")
                self.write(names, json.dumps(self._names).encode())
                self.close(names)
                sync_folder(self.folder / _FILES)
            sync_folder(self.folder)
            return os.stat(self.folder / LINES).st_size  # noqa: PTH116  # reads as the rest
