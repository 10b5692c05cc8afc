"""Which jobs there are, how far each has come and what failed: a small database that survives any crash."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, cast

from mmseek.api.server.errors import JobState as WrongState
from mmseek.api.server.errors import UnknownJob
from mmseek.errors import StorageError
from mmseek.index.ledger import now

State: TypeAlias = Literal["waiting", "running", "done", "failed", "cancelled"]
MOST_FAILURES: Final = 10_000  # kept of a job; more are counted only
_MOST_MESSAGE: Final = 1000

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, collection TEXT, source TEXT,
    state TEXT NOT NULL, bytes INTEGER NOT NULL, stamp INTEGER NOT NULL, kept INTEGER NOT NULL,
    place INTEGER NOT NULL DEFAULT 0, lines INTEGER NOT NULL DEFAULT 0, indexed INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, code TEXT, message TEXT,
    created_at TEXT NOT NULL, updated_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS failures (
    job INTEGER NOT NULL, line INTEGER NOT NULL, id TEXT, code TEXT NOT NULL, message TEXT NOT NULL,
    PRIMARY KEY (job, line)
) WITHOUT ROWID;
"""


class Job(NamedTuple):
    """A job, in the order of the table's columns.

    Args:
        number: counts up.
        id: what clients call it.
        collection: a name, or None for the server's own one.
        source: what it reads if that is not its own, a path below the folder that the operator opened.
        state: waiting, running, done, failed or cancelled.
        bytes, stamp: of the input; the time of its last change. Both 0 of what is read from the beginning each time.
        kept: whether the input is still there.
        place: bytes that are done.
        lines: that are done.
        indexed, unchanged, failed: documents, of these lines.
        code, message: why it failed.
        created_at, updated_at: ISO 8601 in UTC.
    """

    number: int
    id: str
    collection: str | None
    source: str | None
    state: State
    bytes: int
    stamp: int
    kept: int
    place: int
    lines: int
    indexed: int
    unchanged: int
    failed: int
    code: str | None
    message: str | None
    created_at: str
    updated_at: str

    @property
    def reads_corpus(self) -> bool:
        """Whether it reads a folder or a document, and not lines."""
        return self.source is not None and not self.bytes and not self.stamp


class JobFailure(NamedTuple):
    """A line that was not stored."""

    line: int
    id: str | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Step:
    """What one batch came to: where the input is then, and the outcomes to add."""

    place: int
    lines: int
    indexed: int
    unchanged: int
    failures: Sequence[JobFailure]


class JobStore:
    """The database. Safe to use from several threads; what a call has changed is durable when it returns.

    Raises:
        StorageError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with self._told():
            self._sql = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA synchronous = FULL")
            self._sql.executescript(_SCHEMA)

    def add(self, name: str, collection: str | None, source: str | None, size: int, stamp: int) -> Job:
        """A new job, which waits."""
        with self._writing() as sql:
            sql.execute(
                "INSERT INTO jobs (id, collection, source, state, bytes, stamp, kept, created_at, updated_at) "
                "VALUES (?, ?, ?, 'waiting', ?, ?, 1, ?, ?)",
                (name, collection, source, size, stamp, now(), now()),
            )
            return _job(sql, name)

    def get(self, name: str) -> Job:
        """A job.

        Raises:
            UnknownJob: there is none.
        """
        with self._reading() as sql:
            return _job(sql, name)

    def page(self, collection: str | None, limit: int, before: int) -> list[Job]:
        """Jobs of a collection, the newest first, with numbers below `before` unless that is 0."""
        where = "WHERE collection IS ? AND (? = 0 OR number < ?) ORDER BY number DESC LIMIT ?"
        return self._jobs(where, collection, before, before, limit)

    def next_waiting(self) -> Job | None:
        """The one that has waited longest."""
        found = self._jobs("WHERE state = 'waiting' ORDER BY number LIMIT 1")
        return found[0] if found else None

    def with_input(self, finished: bool) -> list[Job]:
        """Jobs whose own input is kept, the oldest first: the finished ones, or the others."""
        states = "IN" if finished else "NOT IN"
        return self._jobs(
            f"WHERE kept AND source IS NULL AND state {states} ('done', 'failed', 'cancelled') ORDER BY number"
        )

    def unfinished(self) -> int:
        """How many jobs wait or run."""
        with self._reading() as sql:
            return int(sql.execute("SELECT count(*) FROM jobs WHERE state IN ('waiting', 'running')").fetchone()[0])

    def move(
        self, name: str, state: State, *, among: Sequence[State], code: str | None = None, message: str | None = None
    ) -> Job:
        """Bring a job into a state; returns it as it is then, before anybody else does anything to it.

        Raises:
            UnknownJob: there is none.
            JobState: it is in a state from which it cannot go there.
        """
        marks = ", ".join("?" * len(among))
        with self._writing() as sql:
            changed = sql.execute(
                f"UPDATE jobs SET state = ?, code = ?, message = ?, updated_at = ? WHERE id = ? AND state IN ({marks})",  # noqa: S608  # question marks
                (state, code, message, now(), name, *among),
            ).rowcount
            found = _job(sql, name)
        if not changed:
            raise WrongState(f"the job is {found.state}, and only one that is {' or '.join(among)} can be {state}")
        return found

    def step(self, job: Job, step: Step) -> State | None:
        """Note what a batch came to, whatever was done to the job meanwhile; returns its state, if it is there."""
        with self._writing() as sql:
            return self._step(sql, job, step)

    def put(self, job: Job, step: Step) -> State | None:
        """Note what a job came to so far, in place of what was noted before; returns its state, if it is there."""
        with self._writing() as sql:
            sql.execute("DELETE FROM failures WHERE job = ?", (job.number,))
            sql.execute(
                "UPDATE jobs SET lines = 0, indexed = 0, unchanged = 0, failed = 0 WHERE number = ?", (job.number,)
            )
            return self._step(sql, job, step)

    def failures(self, job: Job, limit: int, after: int) -> list[JobFailure]:
        """Lines that were not stored, behind a line."""
        with self._reading() as sql:
            rows = sql.execute(
                "SELECT line, id, code, message FROM failures WHERE job = ? AND line > ? ORDER BY line LIMIT ?",
                (job.number, after, limit),
            )
            return list(map(JobFailure._make, rows))

    def input_gone(self, job: Job) -> None:
        """Note that the input is not kept any more."""
        with self._writing() as sql:
            sql.execute("UPDATE jobs SET kept = 0 WHERE number = ?", (job.number,))

    def forget(self, job: Job) -> None:
        """Remove a finished job and its failures.

        Raises:
            JobState: it is not finished.
        """
        with self._writing() as sql:
            gone = sql.execute(
                "DELETE FROM jobs WHERE number = ? AND state IN ('done', 'failed', 'cancelled')", (job.number,)
            ).rowcount
            if gone:
                sql.execute("DELETE FROM failures WHERE job = ?", (job.number,))
        if not gone:
            raise WrongState("the job is not finished: cancel it first")

    def restart(self) -> None:
        """What ran when the server ended waits again."""
        with self._writing() as sql:
            sql.execute("UPDATE jobs SET state = 'waiting' WHERE state = 'running'")

    def drop(self, collection: str) -> None:
        """A collection is gone: its jobs cannot go on."""
        with self._writing() as sql:
            sql.execute(
                "UPDATE jobs SET state = 'cancelled', code = 'unknown_collection', "
                "message = 'the collection was deleted', updated_at = ? "
                "WHERE collection IS ? AND state IN ('waiting', 'running')",
                (now(), collection),
            )

    def finished(self) -> list[Job]:
        """Finished jobs, the oldest first."""
        return self._jobs("WHERE state IN ('done', 'failed', 'cancelled') ORDER BY number")

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._sql.close()

    def _jobs(self, where: str, *values: str | int | None) -> list[Job]:
        with self._reading() as sql:
            return list(map(Job._make, sql.execute(f"SELECT * FROM jobs {where}", values)))  # noqa: S608  # constants

    def _step(self, sql: sqlite3.Connection, job: Job, step: Step) -> State | None:
        kept = sql.execute("SELECT count(*) FROM failures WHERE job = ?", (job.number,)).fetchone()[0]
        rows = [
            (job.number, one.line, one.id, one.code, one.message[:_MOST_MESSAGE])
            for one in step.failures[: max(MOST_FAILURES - kept, 0)]
        ]
        sql.executemany("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?)", rows)
        sql.execute(
            "UPDATE jobs SET place = ?, lines = ?, indexed = indexed + ?, unchanged = unchanged + ?, "
            "failed = failed + ?, updated_at = ? WHERE number = ?",
            (step.place, step.lines, step.indexed, step.unchanged, len(step.failures), now(), job.number),
        )
        found = sql.execute("SELECT state FROM jobs WHERE number = ?", (job.number,)).fetchone()
        return None if found is None else cast(State, found[0])

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._told():
            yield self._sql

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._told():
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield self._sql
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:
                    self._sql.execute("ROLLBACK")
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(f"{self._path} cannot be used ({error}): check the disk") from error


def _job(sql: sqlite3.Connection, name: str) -> Job:
    found = sql.execute("SELECT * FROM jobs WHERE id = ?", (name,)).fetchone()
    if found is None:
        raise UnknownJob(f"there is no job {name[:80]!r} of this collection")
    return Job._make(found)
