"""Vectors on disk under the hash of what they were made of: one SQLite file that several processes may share.

A cache may lose anything at any time, so nothing here fails a caller: a row whose checksum is wrong counts as absent, a
file that is no database is moved aside and begun anew, and what the disk refuses is not kept.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["DEFAULT_BYTES", "CacheFile"]

DEFAULT_BYTES: Final = 1024**3
_CHECK: Final = 8
# Rows that SQLite is asked for at once.
_ASKED: Final = 500
# A row that is read again within this many seconds is not marked as used again: marks are writes.
_FRESH: Final = 3600
# How much is left after rows were thrown away, so that this is seldom done.
_KEPT: Final = 0.9
_WAIT_S: Final = 30.0
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, used INTEGER NOT NULL, data BLOB NOT NULL) WITHOUT ROWID"
)


class CacheFile:
    """Vectors by key. Safe for several threads, and for several processes on one file.

    Args:
        path: of the file; its folder is made.
        max_bytes: the size that the rows may reach; the ones not used for longest go first.
    """

    def __init__(self, path: Path, *, max_bytes: int = DEFAULT_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        with suppress(sqlite3.Error, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = self._opened()

    @property
    def usable(self) -> bool:
        """Whether anything is kept: false where the disk refuses the file."""
        return self._database is not None

    def get(self, keys: Sequence[bytes]) -> dict[bytes, FloatArray]:
        """The vectors (dim,), float32, of the keys that are there and whole."""
        found: dict[bytes, FloatArray] = {}
        self._try(lambda database: _read(database, keys, found))
        return found

    def put(self, rows: Mapping[bytes, FloatArray]) -> None:
        """Keep vectors (dim,), replacing those of equal key."""
        now = int(time.time())
        packed = [(key, now, _packed(key, vector)) for key, vector in rows.items()]

        def write(database: sqlite3.Connection) -> None:
            database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", packed)
            _evict(database, self._max_bytes)

        self._try(write)

    def __len__(self) -> int:
        counts: list[int] = []
        self._try(lambda database: counts.append(_count(database)))
        return sum(counts)

    def close(self) -> None:
        """Give the file back; nothing is kept afterwards."""
        with self._lock:
            if self._database is not None:
                with suppress(sqlite3.Error):
                    self._database.close()
            self._database = None

    def _try(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do the work in a transaction. Errors end it in silence: it has then done less than it should."""
        with self._lock:
            if self._database is None:
                return
            try:
                with self._database as database:
                    work(database)
            except sqlite3.OperationalError:  # locked for too long, read-only or full
                return
            except sqlite3.DatabaseError:
                self._begin_anew()

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._connected()
        except sqlite3.OperationalError:  # locked or read-only, and not damaged
            raise
        except sqlite3.DatabaseError:
            self._move_aside()
            return self._connected()

    def _connected(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_WAIT_S, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(_TABLE)
            database.commit()
        except BaseException:
            database.close()
            raise
        return database

    def _begin_anew(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
        self._database = None
        with suppress(sqlite3.Error, OSError):
            self._move_aside()
            self._database = self._connected()

    def _move_aside(self) -> None:
        """Another process may still hold the file; under its new name it does no harm."""
        self._path.replace(self._path.with_name(f"{self._path.name}.damaged"))
        for ending in ("-wal", "-shm"):
            self._path.with_name(f"{self._path.name}{ending}").unlink(missing_ok=True)


def _read(database: sqlite3.Connection, keys: Sequence[bytes], found: dict[bytes, FloatArray]) -> None:
    now = int(time.time())
    stale: list[bytes] = []
    for start in range(0, len(keys), _ASKED):
        part = keys[start : start + _ASKED]
        marks = ",".join("?" * len(part))
        query = f"SELECT key, used, data FROM vectors WHERE key IN ({marks})"  # noqa: S608 - marks only
        for key, used, data in database.execute(query, part).fetchall():
            vector = _unpacked(key, data)
            if vector is not None:
                found[key] = vector
                if now - used > _FRESH:
                    stale.append(key)
    if stale:
        database.executemany("UPDATE vectors SET used = ? WHERE key = ?", ((now, key) for key in stale))


def _evict(database: sqlite3.Connection, most: int) -> None:
    if _size(database) <= most:
        return
    count = _count(database)
    # One in ten goes at a time, until there is room.
    while count and _size(database) > most * _KEPT:
        gone = max(1, count // 10)
        database.execute(
            "DELETE FROM vectors WHERE key IN (SELECT key FROM vectors ORDER BY used, key LIMIT ?)", (gone,)
        )
        count -= gone


def _count(database: sqlite3.Connection) -> int:
    count: int = database.execute("SELECT count(*) FROM vectors").fetchone()[0]
    return count


def _size(database: sqlite3.Connection) -> int:
    """Bytes of the pages in use; pages that became free are filled again before the file grows."""
    pages, free, size = (
        int(database.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _packed(key: bytes, vector: FloatArray) -> bytes:
    data = np.ascontiguousarray(vector, dtype="<f4").tobytes()
    return hashlib.sha256(key + data).digest()[:_CHECK] + data


def _unpacked(key: bytes, data: object) -> FloatArray | None:
    if not isinstance(data, bytes) or len(data) < _CHECK:
        return None
    check, values = data[:_CHECK], data[_CHECK:]
    if len(values) % 4 or hashlib.sha256(key + values).digest()[:_CHECK] != check:
        return None
    return np.frombuffer(values, dtype="<f4").astype(np.float32)
