"""The thread that works jobs off, one after the other and a batch at a time, as one client among others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from mmseek.api.server.batching.scope import RequestScope, enter_scope
from mmseek.api.server.errors import (
    ClientGone,
    DeadlineExceeded,
    InputGone,
    ServerBusy,
    ServerStopping,
    WorkerLost,
    public_sentence,
)
from mmseek.api.server.errors import JobState as WrongState
from mmseek.api.server.jobs.batches import failure, read_batch
from mmseek.api.server.jobs.corpora import failures_of, read_place
from mmseek.api.server.jobs.inputs import Inputs
from mmseek.api.server.jobs.remote import with_fetched
from mmseek.api.server.jobs.store import Job, JobStore, Step
from mmseek.errors import CollectionLocked, MmseekError
from mmseek.pipeline import index_corpus

if TYPE_CHECKING:
    from mmseek.api.server.jobs.batches import Batch
    from mmseek.api.server.limits import ServerLimits
    from mmseek.pipeline import Retriever
    from mmseek.pipeline.report import Progress

T = TypeVar("T")

_PASSING: Final = (ServerBusy, WorkerLost, DeadlineExceeded, CollectionLocked)
_ATTEMPTS: Final = (
    8  # of one batch, where what is wrong may pass; 0.5 s before the second, twice that before each further
)
_FIRST_WAIT: Final = 0.5
_DAY: Final = 24 * 3600.0
_TOLD_EVERY: Final = 1.0  # seconds: each time is a write that is waited for
_log = structlog.get_logger("mmseek.api")


class JobWorker:
    """Starts with its construction and ends with `stop`.

    Args:
        store, inputs: of the jobs.
        use: a collection by name, or the server's own one, open until the block ends.
        limits: of pictures, and what fetches those that are URLs.
        first_wait: seconds before a batch is tried again.
    """

    def __init__(
        self,
        store: JobStore,
        inputs: Inputs,
        use: Callable[[str | None], AbstractContextManager[Retriever]],
        limits: ServerLimits,
        first_wait: float = _FIRST_WAIT,
    ) -> None:
        self._store = store
        self._inputs = inputs
        self._use = use
        self._limits = limits
        self._first_wait = first_wait
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._now: tuple[str, RequestScope] | None = None  # the job at hand, and its claim on the models
        self._thread = threading.Thread(target=self._run, name="mmseek-jobs", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is a job."""
        self._work.set()

    def interrupt(self, name: str) -> None:
        """If this job is at hand, drop what it waits for: it looks at its state then."""
        with self._lock:
            scope = self._now[1] if self._now is not None and self._now[0] == name else None
        if scope is not None:
            scope.client_gone()

    def stop(self) -> None:
        """Begin nothing more and drop what is waited for; what is not done goes on at the next start."""
        self._stopping.set()
        self._work.set()
        with self._lock:
            scope = self._now[1] if self._now is not None else None
        if scope is not None:
            scope.client_gone()

    def join(self, seconds: float) -> None:
        """Wait for the thread to end, so long at most."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            self._work.clear()
            if self._stopping.is_set():  # looked at after the clearing, which may have taken the word of `stop`
                return
            try:
                job = self._store.next_waiting()
                if job is None:
                    self._work.wait()
                    continue
                self._go(self._store.move(job.id, "running", among=("waiting",)))
            except WrongState:  # it was cancelled just now
                continue
            except Exception as error:  # noqa: BLE001  # the thread must outlive whatever breaks a job
                if self._stopping.is_set():
                    return
                _log.error("jobs_broke", exc_info=error)
                self._stopping.wait(self._first_wait)

    def _go(self, job: Job) -> None:
        """One job, to its end or until somebody wants something else."""
        try:
            if job.reads_corpus:
                self._patiently(lambda: self._corpus(job))
            else:
                self._batches(job)
        except (ClientGone, ServerStopping):
            return  # interrupted: its state says by whom
        except MmseekError as error:
            _log.warning("job_failed", job=job.id, code=error.code, exc_info=error)
            self._end(job, error.code, public_sentence(error))
        except Exception as error:  # noqa: BLE001  # a bug ends this job, not the others
            _log.error("job_broke", job=job.id, exc_info=error)
            self._end(
                job, "internal_error", f"something went wrong in the server; its log says what, under job {job.id}"
            )

    def _end(self, job: Job, code: str, message: str) -> None:
        self._store.move(job.id, "failed", among=("running",), code=code, message=message)

    def _batches(self, job: Job) -> None:
        place, lines = job.place, job.lines
        while not self._stopping.is_set():
            step, ended = self._patiently(lambda: self._batch(job, place, lines))  # noqa: B023  # called at once
            place, lines = step.place, step.lines
            if self._store.step(job, step) != "running":
                return
            if ended:
                self._done(job)
                return

    def _done(self, job: Job) -> None:
        self._store.move(job.id, "done", among=("running",))
        self._inputs.drop(job)
        self._inputs.tidy()

    def _patiently(self, work: Callable[[], T]) -> T:
        """A piece of a job; tried again where what is wrong may pass."""
        wait = self._first_wait
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return work()
            except _PASSING:
                if attempt == _ATTEMPTS or self._stopping.wait(wait):
                    raise
                wait *= 2
        raise AssertionError("the last attempt returns or raises")

    def _batch(self, job: Job, place: int, lines: int) -> tuple[Step, bool]:
        self._claim(job)
        try:
            batch = with_fetched(self._read(job, place, lines), self._limits)
            failures = list(batch.failures)
            indexed = unchanged = 0
            if batch.documents:
                with self._use(job.collection) as retriever:
                    report = retriever.add(batch.documents)
                indexed, unchanged = report.indexed, report.unchanged
                failures += [failure(error.line or 0, error.item_id, error) for error in report.failed]
        finally:
            with self._lock:
                self._now = None
        failures.sort()
        return Step(batch.place, batch.lines, indexed, unchanged, failures), batch.ended

    def _read(self, job: Job, place: int, lines: int) -> Batch:
        path, pictures = self._inputs.of(job)
        try:
            return read_batch(path, place, lines, pictures, self._limits)
        except OSError as error:
            raise InputGone("the input of this job cannot be read any more: send it again as a new job") from error

    def _corpus(self, job: Job) -> None:
        """All of a folder or document, from the beginning: what is stored already is seen and not encoded again."""
        place = self._inputs.corpus_of(job)
        told = 0.0

        def check() -> None:
            if self._stopping.is_set() or self._store.get(job.id).state != "running":
                raise ClientGone("the job was interrupted")

        def tell(now: Progress) -> None:
            nonlocal told
            if time.monotonic() - told >= _TOLD_EVERY:
                told = time.monotonic()
                self._store.put(job, Step(0, now.done, now.indexed, now.unchanged, []))

        self._claim(job)
        try:
            with self._use(job.collection) as retriever:
                entries = read_place(place, self._inputs.root, self._limits, check)
                report = index_corpus(
                    entries,
                    retriever.encoder,
                    retriever.collection,
                    limits=self._limits.media,
                    on_progress=tell,
                )
        finally:
            with self._lock:
                self._now = None
        failed = failures_of(report.failed, place)
        lines = report.indexed + report.unchanged + len(failed)
        if self._store.put(job, Step(0, lines, report.indexed, report.unchanged, failed)) == "running":
            self._done(job)

    def _claim(self, job: Job) -> None:
        """The job is a client of its own: its turns at the models are shared with all others.

        Raises:
            ClientGone: it was cancelled just now.
        """
        scope = RequestScope(f"job {job.id}", time.monotonic() + _DAY, _DAY)
        with self._lock:
            self._now = (job.id, scope)
        if self._stopping.is_set() or self._store.get(job.id).state != "running":
            raise ClientGone("the job was interrupted")
        enter_scope(scope)
