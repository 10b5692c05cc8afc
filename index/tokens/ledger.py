"""What the ledger of a multi-vector collection knows of tokens: where those of each document stand, in which blocks.

A document's tokens have its row number and live and die with it. A block is what one call stored.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmseek.index.segments import Block

if TYPE_CHECKING:
    from mmseek.protocols import RowArray

SCHEMA = """
CREATE TABLE tokens (
    row INTEGER PRIMARY KEY, segment INTEGER NOT NULL, start INTEGER NOT NULL, count INTEGER NOT NULL
);
CREATE TABLE token_blocks (
    segment INTEGER NOT NULL, start INTEGER NOT NULL, rows INTEGER NOT NULL, checksum BLOB NOT NULL,
    PRIMARY KEY (segment, start)
) WITHOUT ROWID;
"""
_CHUNK = 50_000


class TokenPlace(NamedTuple):
    """The `size` rows of tokens from `start` on in a segment that are a document's."""

    row: int
    segment: int
    start: int
    size: int


def insert_tokens(sql: sqlite3.Connection, rows: Iterable[int], counts: RowArray, block: Block) -> None:
    """Say where the tokens of these documents are: one after the other in a block."""
    starts = (block.start + np.cumsum(counts) - counts).tolist()
    places = zip(rows, starts, counts.tolist(), strict=True)
    sql.executemany(
        "INSERT INTO tokens VALUES (?, ?, ?, ?)", ((row, block.segment, start, count) for row, start, count in places)
    )
    sql.execute("INSERT INTO token_blocks VALUES (?, ?, ?, ?)", block)


def replace_tokens(sql: sqlite3.Connection, blocks: Sequence[Block], places: Sequence[TokenPlace]) -> None:
    """After a compaction: these are all the tokens there are."""
    sql.execute("DELETE FROM tokens")
    sql.execute("DELETE FROM token_blocks")
    sql.executemany("INSERT INTO token_blocks VALUES (?, ?, ?, ?)", blocks)
    sql.executemany("INSERT INTO tokens VALUES (?, ?, ?, ?)", places)


def living_tokens(sql: sqlite3.Connection, after: int = 0) -> Iterator[RowArray]:
    """Places of living documents' tokens with row numbers over `after`: (n, 4), as `TokenPlace`, by row."""
    cursor = sql.execute(
        "SELECT row, tokens.segment, start, count FROM tokens JOIN vectors USING (row) "
        "WHERE row > ? AND died IS NULL ORDER BY row",
        (after,),
    )
    while found := cursor.fetchmany(_CHUNK):
        yield np.array(found, dtype=np.int64)


def token_places(sql: sqlite3.Connection, ids: Iterable[str]) -> dict[str, TokenPlace]:
    """Where the tokens of these ids stand; unknown ids are left out."""
    found = sql.execute(
        "SELECT id, row, segment, start, count FROM documents JOIN tokens USING (row) "
        "WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(ids)),),
    )
    return {name: TokenPlace(*place) for name, *place in found}


def count_tokens(sql: sqlite3.Connection) -> int:
    """How many vectors living documents have."""
    question = "SELECT coalesce(sum(count), 0) FROM tokens JOIN vectors USING (row) WHERE died IS NULL"
    return int(sql.execute(question).fetchone()[0])


def token_blocks(sql: sqlite3.Connection) -> list[Block]:
    """What was written at once, in the order of the files."""
    return list(map(Block._make, sql.execute("SELECT * FROM token_blocks ORDER BY segment, start")))


def used_tokens(sql: sqlite3.Connection) -> dict[int, int]:
    """Rows of every segment of tokens, the dead ones included."""
    return dict(sql.execute("SELECT segment, max(start + rows) FROM token_blocks GROUP BY segment"))


def all_token_places(sql: sqlite3.Connection) -> list[TokenPlace]:
    """Where tokens stand, the dead ones too, in the order of the files."""
    return list(map(TokenPlace._make, sql.execute("SELECT * FROM tokens ORDER BY segment, start")))


def documents_without_tokens(sql: sqlite3.Connection) -> Iterator[str]:
    """Ids of documents of which no tokens are known."""
    question = "SELECT id FROM documents WHERE row NOT IN (SELECT row FROM tokens)"
    return (identifier for (identifier,) in sql.execute(question))
