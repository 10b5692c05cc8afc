"""SQLite connections to one ledger: opened as the folder allows, lent to one thread at a time, errors in our words."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from mmseek.errors import CollectionError, CorruptCollection, MmseekError, StorageError
from mmseek.index.ledger import LedgerConnection, Snapshot
from mmseek.index.rawfile import FileKey, connection_closed, connection_opens

NAME = "documents.sqlite"
_BUSY_SECONDS = 30.0


class Connections:
    """A pool that grows to the number of threads that ask at the same time.

    Args:
        folder: the collection.
        writable: whether transactions may write.
    """

    def __init__(self, folder: Path, *, writable: bool) -> None:
        self.path = folder / NAME
        self._writable = writable
        self._guard = threading.Lock()
        self._idle: list[LedgerConnection] = []
        self._closed = False
        with self.lend():
            pass  # opening reports a damaged or unreadable database now, not at the first search

    @contextmanager
    def lend(self) -> Iterator[LedgerConnection]:
        """A connection for this thread, until the block ends."""
        with sqlite_errors(self.path):
            connection = self.take()
            try:
                yield connection
            finally:
                self.give_back(connection)

    def snapshot(self) -> LentSnapshot:
        """One read transaction on a connection of its own: `with connections.snapshot() as snapshot`."""
        return LentSnapshot(self)

    def close(self) -> None:
        """Close them all; one that is lent is closed when it comes back."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        with sqlite_errors(self.path):
            for connection in idle:
                connection.close()

    def take(self) -> LedgerConnection:
        """An idle connection, or a new one; for the caller to give back."""
        with self._guard:
            if self._closed:
                raise CollectionError(f"the collection {self.path.parent} is closed: open it again")
            if self._idle:
                return self._idle.pop()
        return self._open()

    def give_back(self, connection: LedgerConnection) -> None:
        """Let another thread have it."""
        with self._guard:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _open(self) -> LedgerConnection:
        if not self.path.exists():
            raise CorruptCollection(
                f"{self.path} is missing: restore it from a backup, or index again into a new folder"
            )
        if self._writable:
            return connect(self.path, "mode=rw")
        try:
            return connect(self.path, "mode=rw")  # a reader, too, writes the index of the log that readers share
        except sqlite3.OperationalError as error:
            if not _refused_write(error):
                raise
        log = self.path.with_name(NAME + "-wal")
        if log.exists() and log.stat().st_size:
            raise StorageError(
                f"{self.path.parent} is read-only and its last writer did not close it: "
                "open it once where it can be written, then read it here"
            )
        return connect(self.path, "mode=ro&immutable=1")


class LentSnapshot:
    """What `reading` on a lent connection gives. Every search takes one, and generators cost it several microseconds.

    Args:
        connections: where the connection comes from and goes back to.
    """

    __slots__ = ("_connection", "_connections")

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def __enter__(self) -> Snapshot:
        try:
            self._connection = self._connections.take()
            try:
                self._connection.execute("BEGIN")
            except BaseException:
                self._connections.give_back(self._connection)
                raise
        except sqlite3.Error as error:
            raise in_our_words(self._connections.path, error) from error
        return Snapshot(self._connection)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            try:
                self._connection.rollback()
            finally:
                self._connections.give_back(self._connection)
        except sqlite3.Error as failure:
            raise in_our_words(self._connections.path, failure) from failure
        if isinstance(error, sqlite3.Error):
            raise in_our_words(self._connections.path, error) from error


class _Counted(LedgerConnection):
    """A connection that keeps `rawfile` told of it."""

    file: FileKey | None = None

    def close(self) -> None:
        super().close()
        if self.file is not None:
            key, self.file = self.file, None
            connection_closed(key)


def connect(path: Path, mode: str) -> LedgerConnection:
    """Open a ledger; `mode` is SQLite's, as in a URI."""
    key = connection_opens(path)
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?{mode}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            factory=_Counted,
        )
        connection.file = key
    except BaseException:
        connection_closed(key)
        raise
    try:
        for setting in ("synchronous = FULL", "fullfsync = ON", "trusted_schema = OFF", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute("SELECT count(*) FROM meta").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def empty_log(connection: sqlite3.Connection) -> bool:
    """Bring the log into the ledger file and empty it; False where a reader is still in it, who is not waited for."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")


def _refused_write(error: sqlite3.OperationalError) -> bool:
    code = error.sqlite_errorcode & 0xFF
    return code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Say what SQLite says in one sentence.

    Raises:
        StorageError: the disk is full, read-only or failing, or another process holds the database too long.
        CorruptCollection: the database is damaged.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise in_our_words(path, error) from error


def in_our_words(path: Path, error: sqlite3.Error) -> MmseekError:
    """What SQLite says, as in `sqlite_errors`."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        reason = "the disk is full, so nothing of this call was stored: free some space and run it again"
    elif code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        reason = "it is read-only for this user, so nothing was stored: make it writable or choose another folder"
    elif code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM}:
        reason = f"reading or writing failed ({error}), so nothing of this call was stored: run it again"
    else:
        return CorruptCollection(
            f"{path} is damaged ({error}): restore it from a backup, or index again into a new folder"
        )
    return StorageError(f"{path}: {reason}")
