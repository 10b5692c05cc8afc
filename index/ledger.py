"""The ledger of a collection, `documents.sqlite`: its documents, and which vectors exist where.

A call's vectors are durable before the transaction that names them, so what SQLite does not point to does not exist.
Rows are numbered once and never again; `generation` counts transactions and `epoch` counts compactions, by which a
reader sees what has changed since it last looked.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmseek.index import words
from mmseek.index.codec import Record
from mmseek.index.filter_sql import Condition
from mmseek.index.segments import Block

if TYPE_CHECKING:
    from mmseek.protocols import RowArray

SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE documents (
    row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, item TEXT NOT NULL, modality TEXT NOT NULL,
    parent_id TEXT, digest TEXT, checksum BLOB NOT NULL
);
CREATE INDEX documents_modality ON documents (modality);
CREATE TABLE vectors (row INTEGER PRIMARY KEY, segment INTEGER NOT NULL, position INTEGER NOT NULL, died INTEGER);
CREATE INDEX vectors_died ON vectors (died) WHERE died IS NOT NULL;
CREATE TABLE blocks (
    segment INTEGER NOT NULL, start INTEGER NOT NULL, rows INTEGER NOT NULL, checksum BLOB NOT NULL,
    PRIMARY KEY (segment, start)
) WITHOUT ROWID;
{words.SCHEMA}
"""
_CHUNK = 50_000
_FEW = 10  # hits, most often


class State(NamedTuple):
    """How far a snapshot has come."""

    epoch: int
    generation: int
    next_row: int


class LedgerConnection(sqlite3.Connection):
    """A connection that remembers the state it has seen last, and by which of SQLite's counts it was."""

    seen: tuple[int, int, State] | None = None


class Snapshot:
    """What one read transaction sees. `json_each` takes any number of ids in one statement."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.sql = connection

    def state(self) -> State:
        """How far it has come.

        Every search asks. `data_version` counts what others have committed and `total_changes` what this connection
        has changed: where neither has moved, the state is the one that was read before.
        """
        connection = self.sql
        if not isinstance(connection, LedgerConnection):
            return self._read_state()
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        changes = connection.total_changes
        seen = connection.seen
        if seen is None or seen[0] != version or seen[1] != changes:
            connection.seen = seen = (version, changes, self._read_state())
        return seen[2]

    def _read_state(self) -> State:
        values = dict(self.sql.execute("SELECT key, value FROM meta WHERE key IN ('epoch', 'generation', 'next_row')"))
        return State(values["epoch"], values["generation"], values["next_row"])

    def updated_at(self) -> str:
        return str(self.sql.execute("SELECT value FROM meta WHERE key = 'updated_at'").fetchone()[0])

    def count(self) -> int:
        return self._number("SELECT count(*) FROM documents")

    def modalities(self) -> dict[str, int]:
        return dict(self.sql.execute("SELECT modality, count(*) FROM documents GROUP BY modality ORDER BY modality"))

    def rows(self, ids: Iterable[str]) -> RowArray:
        """Row numbers of these ids; unknown ones are left out."""
        sql = "SELECT row FROM documents WHERE id IN (SELECT value FROM json_each(?))"
        found = self.sql.execute(sql, (json.dumps(list(ids)),))
        return np.fromiter((row for (row,) in found), dtype=np.int64)

    def rows_where(self, condition: Condition) -> RowArray:
        """Row numbers of the documents that a condition holds for."""
        sql = f"SELECT row FROM documents WHERE {condition.sql}"  # noqa: S608  # made of constants by filter_sql
        found = self.sql.execute(sql, condition.parameters)
        return np.fromiter((row for (row,) in found), dtype=np.int64)

    def count_where(self, condition: Condition) -> int:
        """How many documents a condition holds for."""
        sql = f"SELECT count(*) FROM documents WHERE {condition.sql}"  # noqa: S608  # made of constants by filter_sql
        return int(self.sql.execute(sql, condition.parameters).fetchone()[0])

    def ids_where(self, condition: Condition) -> list[str]:
        """Their ids."""
        sql = f"SELECT id FROM documents WHERE {condition.sql}"  # noqa: S608  # made of constants by filter_sql
        return [name for (name,) in self.sql.execute(sql, condition.parameters)]

    def records_after(self, row: int, limit: int, condition: Condition) -> list[Record]:
        """The first `limit` rows over `row` that a condition holds for, ascending."""
        sql = f"SELECT * FROM documents WHERE row > ? AND {condition.sql} ORDER BY row LIMIT ?"  # noqa: S608
        return list(map(Record._make, self.sql.execute(sql, (row, *condition.parameters, limit))))

    def has_words(self) -> bool:
        """Whether `search_words` can be asked; collections made by early versions have no index of words."""
        return words.has_words(self.sql)

    def search_words(self, text: str, k: int, condition: Condition | None) -> list[tuple[int, float]]:
        """The k best rows by BM25, and their scores, best first; equal scores by row number."""
        match = words.match_any(text)
        if match is None:
            return []
        allowed = condition or Condition("1", [])
        within = "" if condition is None else f"AND rowid IN (SELECT row FROM documents WHERE {allowed.sql})"  # noqa: S608
        sql = f"""
            SELECT rowid, -bm25(words) AS score FROM words WHERE words MATCH ? {within}
            ORDER BY score DESC, rowid LIMIT ?
        """  # noqa: S608  # made of constants by filter_sql
        return self.sql.execute(sql, (match, *allowed.parameters, k)).fetchall()

    def words_without_document(self) -> Iterator[int]:
        """Rows that are only in one of the index of words and the table of documents."""
        documents, indexed = "SELECT row FROM documents", "SELECT id FROM words_docsize"
        sql = f"SELECT * FROM ({documents} EXCEPT {indexed}) UNION SELECT * FROM ({indexed} EXCEPT {documents})"  # noqa: S608
        return (row for (row,) in self.sql.execute(sql))

    def records(self, ids: Iterable[str]) -> dict[str, Record]:
        sql = "SELECT * FROM documents WHERE id IN (SELECT value FROM json_each(?))"
        found = self.sql.execute(sql, (json.dumps(list(ids)),))
        return {record.id: record for record in map(Record._make, found)}

    def records_of_rows(self, rows: Iterable[int]) -> dict[int, Record]:
        wanted = list(rows)
        if len(wanted) <= _FEW:  # a statement that is prepared once, and asked with the last row again and again
            few = "SELECT * FROM documents WHERE row IN (" + ",".join("?" * _FEW) + ")"  # noqa: S608  # question marks
            found = self.sql.execute(few, wanted + wanted[-1:] * (_FEW - len(wanted))) if wanted else ()
        else:
            many = "SELECT * FROM documents WHERE row IN (SELECT value FROM json_each(?))"
            found = self.sql.execute(many, (json.dumps(wanted),))
        return {values[0]: Record._make(values) for values in found}

    def all_records(self) -> Iterator[Record]:
        """Every document's row, ascending."""
        return map(Record._make, self.sql.execute("SELECT * FROM documents ORDER BY row"))

    def digests(self, ids: Iterable[str]) -> dict[str, str]:
        sql = "SELECT id, digest FROM documents WHERE digest IS NOT NULL AND id IN (SELECT value FROM json_each(?))"
        return dict(self.sql.execute(sql, (json.dumps(list(ids)),)))

    def live(self, after: int) -> Iterator[RowArray]:
        """Places of living vectors with row numbers over `after`: arrays (n, 3) of row, segment, position."""
        return self._places("SELECT row, segment, position FROM vectors WHERE row > ? AND died IS NULL", after)

    def places_of(self, ids: Iterable[str]) -> list[tuple[str, int, int]]:
        """Where the vectors of these ids stand: id, segment, position."""
        sql = """
            SELECT id, segment, position FROM documents JOIN vectors USING (row)
            WHERE died IS NULL AND id IN (SELECT value FROM json_each(?))
        """
        return self.sql.execute(sql, (json.dumps(list(ids)),)).fetchall()

    def died(self, after: int) -> RowArray:
        """Rows that died in generations over `after`."""
        found = self.sql.execute("SELECT row FROM vectors WHERE died > ?", (after,))
        return np.fromiter((row for (row,) in found), dtype=np.int64)

    def count_vectors(self, after: int = 0) -> int:
        """How many vectors with row numbers over `after` are alive."""
        return self._number("SELECT count(*) FROM vectors WHERE row > ? AND died IS NULL", after)

    def count_dead(self) -> int:
        """How many vectors on disk belong to nothing any more."""
        return self._number("SELECT count(*) FROM vectors WHERE died IS NOT NULL")

    def blocks(self) -> list[Block]:
        return list(map(Block._make, self.sql.execute("SELECT * FROM blocks ORDER BY segment, start")))

    def used(self) -> dict[int, int]:
        """Rows of every segment, the dead ones included."""
        return dict(self.sql.execute("SELECT segment, max(start + rows) FROM blocks GROUP BY segment"))

    def all_places(self) -> RowArray:
        """Where vectors stand, the dead ones too: (n, 2) of segment and position, sorted."""
        found = self.sql.execute("SELECT segment, position FROM vectors ORDER BY segment, position").fetchall()
        return np.array(found, dtype=np.int64).reshape(-1, 2)

    def integrity_problems(self) -> list[str]:
        """What SQLite itself finds wrong with its file."""
        lines = (line for (text,) in self.sql.execute("PRAGMA integrity_check") for line in text.splitlines())
        return [line for line in lines if line != "ok" and not line.startswith("***")]

    def documents_without_vector(self) -> Iterator[str]:
        sql = "SELECT id FROM documents WHERE row NOT IN (SELECT row FROM vectors WHERE died IS NULL)"
        return (identifier for (identifier,) in self.sql.execute(sql))

    def vectors_without_document(self) -> Iterator[int]:
        sql = "SELECT row FROM vectors WHERE died IS NULL AND row NOT IN (SELECT row FROM documents)"
        return (row for (row,) in self.sql.execute(sql))

    def newest(self) -> tuple[int, int]:
        """The highest row number there is, and the highest generation in which one died; 0 if none."""
        sql = "SELECT coalesce(max(row), 0), coalesce(max(died), 0) FROM vectors"
        last_row, last_death = self.sql.execute(sql).fetchone()
        return last_row, last_death

    def _places(self, sql: str, *parameters: int) -> Iterator[RowArray]:
        cursor = self.sql.execute(sql + " ORDER BY row", parameters)
        while found := cursor.fetchmany(_CHUNK):
            yield np.array(found, dtype=np.int64)

    def _number(self, sql: str, *parameters: int) -> int:
        return int(self.sql.execute(sql, parameters).fetchone()[0])


class Transaction(Snapshot):
    """What one write transaction does; nothing of it exists before it is committed."""

    def state(self) -> State:
        """As it would be: not remembered, for it may come to nothing."""
        return self._read_state()

    def insert(self, records: Sequence[Record], block: Block) -> None:
        """Store documents whose vectors are this block's rows, in order."""
        self.sql.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)", records)
        places = ((record.row, block.segment, block.start + n, None) for n, record in enumerate(records))
        self.sql.executemany("INSERT INTO vectors VALUES (?, ?, ?, ?)", places)
        self.sql.execute("INSERT INTO blocks VALUES (?, ?, ?, ?)", block)
        words.insert_words(self.sql, ((record.row, record.item) for record in records))
        self._set("next_row", records[-1].row + 1)

    def delete(self, ids: Sequence[str], generation: int) -> int:
        """Take documents out and mark their vectors dead; returns how many there were."""
        rows = json.dumps(self.rows(ids).tolist())
        died = "UPDATE vectors SET died = ? WHERE row IN (SELECT value FROM json_each(?))"
        self.sql.execute(died, (generation, rows))
        gone = "SELECT row, item FROM documents WHERE row IN (SELECT value FROM json_each(?))"
        words.delete_words(self.sql, self.sql.execute(gone, (rows,)))
        return self.sql.execute("DELETE FROM documents WHERE row IN (SELECT value FROM json_each(?))", (rows,)).rowcount

    def replace_vectors(self, blocks: Sequence[Block], rows: RowArray) -> None:
        """After a compaction: `rows` (n,), in order, are all the vectors there are, and they stand in these blocks."""
        self.sql.execute("DELETE FROM vectors WHERE died IS NOT NULL")
        self.sql.execute("DELETE FROM blocks")
        self.sql.executemany("INSERT INTO blocks VALUES (?, ?, ?, ?)", blocks)
        segments = np.concatenate([np.full(block.rows, block.segment) for block in blocks] or [rows])
        positions = np.concatenate([np.arange(block.start, block.start + block.rows) for block in blocks] or [rows])
        places = zip(segments.tolist(), positions.tolist(), rows.tolist(), strict=True)
        self.sql.executemany("UPDATE vectors SET segment = ?, position = ? WHERE row = ?", places)
        self._set("epoch", self.state().epoch + 1)

    def rebuild_words(self) -> None:
        """Build the index of words from the documents."""
        words.rebuild_words(self.sql)
        self._set("words_recipe", words.RECIPE)

    def finish(self, generation: int) -> None:
        self._set("generation", generation)
        self._set("words_generation", generation)
        self._set("updated_at", now())

    def _set(self, key: str, value: int | str) -> None:
        self.sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def create_schema(connection: sqlite3.Connection, more: str = "") -> None:
    """Fill a new database, with `more` tables than every collection has; one transaction."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(f"BEGIN; {SCHEMA} {more} COMMIT;")
    values = [("epoch", 0), ("generation", 0), ("next_row", 1), ("updated_at", now())]
    values += [("words_recipe", words.RECIPE), ("words_generation", 0)]
    connection.executemany("INSERT INTO meta VALUES (?, ?)", values)


def now() -> str:
    """The time as a collection writes it: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def reading(connection: sqlite3.Connection) -> Iterator[Snapshot]:
    """One read transaction: all that is asked in it is answered from one state."""
    connection.execute("BEGIN")
    try:
        yield Snapshot(connection)
    finally:
        connection.rollback()


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[Transaction]:
    """One write transaction: all of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield Transaction(connection)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
