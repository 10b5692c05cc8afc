"""SQLite connections to one ledger: opened as the folder allows, lent to one thread at a time, errors in our words."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmseek.errors import CollectionError, CorruptCollection, StorageError
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
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        with self.lend():
            pass  # opening reports a damaged or unreadable database now, not at the first search

    @contextmanager
    def lend(self) -> Iterator[sqlite3.Connection]:
        """A connection for this thread, until the block ends."""
        with sqlite_errors(self.path):
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)

    def close(self) -> None:
        """Close them all; one that is lent is closed when it comes back."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        with sqlite_errors(self.path):
            for connection in idle:
                connection.close()

    def _take(self) -> sqlite3.Connection:
        with self._guard:
            if self._closed:
                raise CollectionError(f"the collection {self.path.parent} is closed: open it again")
            if self._idle:
                return self._idle.pop()
        return self._open()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._guard:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _open(self) -> sqlite3.Connection:
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


class _Counted(sqlite3.Connection):
    """A connection that keeps `rawfile` told of it."""

    file: FileKey | None = None

    def close(self) -> None:
        super().close()
        if self.file is not None:
            key, self.file = self.file, None
            connection_closed(key)


def connect(path: Path, mode: str) -> sqlite3.Connection:
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
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            reason = "the disk is full, so nothing of this call was stored: free some space and run it again"
        elif code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
            reason = "it is read-only for this user, so nothing was stored: make it writable or choose another folder"
        elif code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM}:
            reason = f"reading or writing failed ({error}), so nothing of this call was stored: run it again"
        else:
            raise CorruptCollection(
                f"{path} is damaged ({error}): restore it from a backup, or index again into a new folder"
            ) from error
        raise StorageError(f"{path}: {reason}") from error
