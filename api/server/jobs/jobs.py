"""What the routes ask of jobs: begin, look at, cancel, resume, forget."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmseek.api.server.errors import JobsFull, JobState, UnknownJob
from mmseek.api.server.jobs.corpora import is_corpus
from mmseek.api.server.jobs.inputs import Draft, Inputs
from mmseek.api.server.jobs.store import Job, JobFailure, JobStore
from mmseek.api.server.jobs.worker import JobWorker

if TYPE_CHECKING:
    from mmseek.api.server.limits import ServerLimits
    from mmseek.pipeline import Retriever

_PATIENCE: Final = 30.0


class Jobs:
    """The jobs of a server. Everything blocks a little; call it in threads.

    Args:
        folder: of this server alone; what was begun there goes on.
        use: a collection by name, or the server's own one, open until the block ends.
        limits: of pictures, and of all inputs together.
        most_waiting: jobs that may wait or run.
        root: below which jobs may read files of the server.

    Raises:
        StorageError: the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        use: Callable[[str | None], AbstractContextManager[Retriever]],
        limits: ServerLimits,
        *,
        most_waiting: int = 100,
        root: Path | None = None,
    ) -> None:
        self._store = JobStore(folder / "jobs.sqlite")
        self.inputs = Inputs(folder / "jobs", self._store, limits.max_job_bytes, root)
        self._most_waiting = most_waiting
        self._store.restart()
        self._worker = JobWorker(self._store, self.inputs, use, limits)

    def check_room(self) -> None:
        """Refuse a job before its input is read.

        Raises:
            JobsFull: too many wait.
        """
        waiting = self._store.unfinished()
        if waiting >= self._most_waiting:
            raise JobsFull(f"{waiting} jobs wait already", 60)

    def begin(self, name: str, collection: str | None, draft: Draft) -> Job:
        """A job whose input has come in."""
        job = self._store.add(name, collection, None, draft.finish(), 0)
        self._worker.wake()
        return job

    def begin_file(self, name: str, collection: str | None, path: str) -> Job:
        """A job that reads a file or a folder of the server.

        Raises:
            InputError: it may not, or there is none.
        """
        found = self.inputs.place_of(path)
        if is_corpus(found):
            job = self._store.add(name, collection, path, 0, 0)
        else:
            facts = found.stat()
            job = self._store.add(name, collection, path, facts.st_size, facts.st_mtime_ns)
        self._worker.wake()
        return job

    def get(self, collection: str | None, name: str) -> Job:
        """A job of a collection.

        Raises:
            UnknownJob: it has none of this id.
        """
        job = self._store.get(name)
        if job.collection != collection:
            raise UnknownJob(f"there is no job {name[:80]!r} of this collection")
        return job

    def page(self, collection: str | None, limit: int, before: int) -> list[Job]:
        """Jobs of a collection, the newest first, with numbers below `before` unless that is 0."""
        return self._store.page(collection, limit, before)

    def failures(self, job: Job, limit: int, after: int) -> list[JobFailure]:
        """Lines that were not stored, behind a line."""
        return self._store.failures(job, limit, after)

    def cancel(self, job: Job) -> Job:
        """Stop a job; what is stored stays. One that is finished is left as it is."""
        try:
            cancelled = self._store.move(job.id, "cancelled", among=("waiting", "running"))
        except JobState:
            return self._store.get(job.id)
        self._worker.interrupt(job.id)
        return cancelled

    def resume(self, job: Job) -> Job:
        """Let a job that failed or was cancelled go on from where it stopped.

        Raises:
            InputGone: its input is not kept any more.
            JobState: it is done, or runs.
        """
        if job.state in ("failed", "cancelled"):
            self.inputs.check(job)
        resumed = self._store.move(job.id, "waiting", among=("failed", "cancelled"))
        self._worker.wake()
        return resumed

    def forget(self, job: Job) -> None:
        """Remove a finished job, its input and its failures.

        Raises:
            JobState: it is not finished.
        """
        self._store.forget(job)
        self.inputs.drop(job)

    def drop(self, collection: str) -> None:
        """A collection is gone: its jobs cannot go on."""
        for job in self._store.page(collection, self._most_waiting * 10, 0):
            self._worker.interrupt(job.id)
        self._store.drop(collection)

    def stop(self) -> None:
        """Begin nothing more."""
        self._worker.stop()

    def close(self) -> None:
        """Wait for the thread, a while at most, and close the files."""
        self._worker.stop()
        self._worker.join(_PATIENCE)
        self._store.close()
