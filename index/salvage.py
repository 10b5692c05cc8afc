"""What can still be read of a damaged collection, and trusted.

A document is good if its row has its checksum, its kept pictures have their content, and its vector stands in a block
that has its checksum and whose places are in the order in which they were written.
"""

from __future__ import annotations

import shutil
import sqlite3
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from mmseek.errors import CorruptCollection
from mmseek.index import codec
from mmseek.index.assets import AssetStore
from mmseek.index.codec import Record
from mmseek.index.connections import NAME
from mmseek.index.segments import TOKENS, Block, Segments

_STEP = 256


class Place(NamedTuple):
    """Where the vector of a row stands; of a multi-vector collection, the first of `size` of its tokens'."""

    row: int
    segment: int
    position: int
    size: int = 1


class _Questions(NamedTuple):
    """What the ledger is asked: row, segment, position, count and death of every vector, and the table of blocks."""

    places: str
    blocks: str


_VECTORS = _Questions("SELECT row, segment, position, 1, died FROM vectors WHERE row BETWEEN ? AND ?", "blocks")
_TOKENS = _Questions(
    "SELECT row, tokens.segment, start, count, died FROM tokens LEFT JOIN vectors USING (row) "
    "WHERE row BETWEEN ? AND ?",
    "token_blocks",
)


@dataclass(slots=True)
class Salvage:
    """Good documents with the place of their vectors, in order, and the rest.

    `dropped` have their content but no vector or picture that could be trusted; `lost` are ids of which not even the
    content can be trusted.
    """

    good: list[tuple[Record, Place]] = field(default_factory=list)
    dropped: list[Record] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    unreadable: int = 0  # rows of which not even the id can be read


def copied_ledger(folder: Path, scratch: Path) -> Path:
    """The ledger and its log copied aside, so that reading it changes nothing of the original."""
    if not (folder / NAME).is_file():
        raise CorruptCollection(
            f"{folder / NAME} is missing, and nothing else says which documents there were: "
            "restore a snapshot, or index again into a new folder"
        )
    for ending in ("", "-wal"):
        with suppress(FileNotFoundError):
            shutil.copyfile(folder / (NAME + ending), scratch / (NAME + ending))
    return scratch / NAME


def salvage(ledger: Path, segments: Segments, assets: AssetStore) -> Salvage:
    """Read all that can be read.

    Args:
        ledger: a copy of the collection's.
        segments: its vectors; of a multi-vector collection those of tokens, for the others are made of them.
        assets: its pictures.

    Raises:
        CorruptCollection: not one document can be read.
    """
    with closing(sqlite3.connect(ledger, isolation_level=None)) as sql:
        sql.text_factory = lambda raw: raw.decode("utf-8", "replace")
        last = _last_row(sql)
        of = _TOKENS if segments.layout == TOKENS else _VECTORS
        places = list(_rows(sql, of.places, last))
        trusted = _trusted(places, _blocks(sql, of.blocks), segments)
        found = Salvage()
        seen = 0
        living = {place[0] for place in places if place[4] is None}
        for values in _rows(sql, "SELECT * FROM documents WHERE row BETWEEN ? AND ?", last):
            seen += 1
            living.discard(values[0])
            _judge(values, trusted, assets, found)
        # A damaged index of ids may have let one in twice: the later row is the one that was written last.
        found.good = sorted({each[0].id: each for each in found.good}.values(), key=lambda each: each[0].row)
        names = _ids(sql)
        found.lost += sorted({names[row] for row in living if row in names} - {record.id for record, _ in found.good})
        found.unreadable = len([row for row in living if row not in names])
    if not seen and last is not None:
        raise CorruptCollection(
            f"no document of {ledger.name} can be read: restore a snapshot, or index again into a new folder"
        )
    return found


def _judge(values: tuple[Any, ...], trusted: dict[int, Place], assets: AssetStore, found: Salvage) -> None:
    record = Record(*values)
    try:
        sound = codec.checksum(*record[:-1]) == record.checksum
        names = list(codec.asset_names(record.item)) if sound else []
    except (ValueError, TypeError, KeyError, AttributeError):
        sound = False
    if not sound:
        found.lost.append(str(record.id))
    elif record.row not in trusted or any(assets.problem(assets.path(name)) for name in names):
        found.dropped.append(record)
    else:
        found.good.append((record, trusted[record.row]))


def _last_row(sql: sqlite3.Connection) -> int | None:
    """The highest row number that anything speaks of, or None for a collection without documents.

    Raises:
        CorruptCollection: nothing can be read.
    """
    known: list[int] = []
    answered = False
    for question in (
        "SELECT value - 1 FROM meta WHERE key = 'next_row'",
        "SELECT max(row) FROM documents",
        "SELECT max(row) FROM vectors",
    ):
        with suppress(sqlite3.Error):
            for (value,) in sql.execute(question):
                answered = True
                if isinstance(value, int) and 0 < value < 1 << 40:
                    known.append(value)
    if not answered:
        raise CorruptCollection(
            "the ledger cannot be read at all: restore a snapshot, or index again into a new folder"
        )
    # A damaged counter must not send the search through a billion rows that were never there.
    return min(max(known), 100 * min(known) + 1_000_000) if known else None


def _ids(sql: sqlite3.Connection) -> dict[int, str]:
    """The ids by row, from the index of ids, which may be whole where the table is not."""
    names: dict[int, str] = {}
    with suppress(sqlite3.Error):
        for row, name in sql.execute("SELECT row, id FROM documents INDEXED BY sqlite_autoindex_documents_1"):
            names[row] = str(name)
    return names


def _rows(sql: sqlite3.Connection, question: str, last: int | None) -> Iterator[tuple[Any, ...]]:
    """All rows that can be read, in steps; a step with a damaged page in it row by row."""
    for low in range(1, (last or 0) + 1, _STEP):
        try:
            found = sql.execute(question, (low, low + _STEP - 1)).fetchall()
        except sqlite3.Error:
            found = []
            for row in range(low, low + _STEP):
                with suppress(sqlite3.Error):
                    found += sql.execute(question, (row, row)).fetchall()
        yield from found


def _blocks(sql: sqlite3.Connection, table: str) -> list[Block]:
    """The blocks that can be read, from both ends up to what is damaged."""
    found: set[Block] = set()
    for order in ("ASC", "DESC"):
        with suppress(sqlite3.Error):
            question = f"SELECT * FROM {table} ORDER BY segment {order}, start {order}"  # noqa: S608  # of constants
            for values in sql.execute(question):
                if all(isinstance(value, int) and 0 <= value < 1 << 40 for value in values[:3]):
                    found.add(Block(*values))
    return sorted(found, key=lambda block: block[:2])


def _trusted(places: list[tuple[Any, ...]], blocks: list[Block], segments: Segments) -> dict[int, Place]:
    """The living places in blocks that are whole, by row."""
    by_segment: dict[int, list[tuple[int, int, int, bool]]] = defaultdict(list)
    for row, segment, position, count, died in places:
        if all(isinstance(value, int) for value in (row, segment, position, count)):
            by_segment[segment].append((position, row, count, died is None))
    for found in by_segment.values():
        found.sort()
    trusted: dict[int, Place] = {}
    for block in blocks:
        end = block.start + block.rows
        inside = by_segment[block.segment]
        inside = inside[bisect_left(inside, (block.start,)) : bisect_left(inside, (end,))]
        if _in_order(inside, block) and _is_sound(segments, block):
            trusted |= {row: Place(row, block.segment, at, count) for at, row, count, lives in inside if lives}
    return trusted


def _in_order(inside: list[tuple[int, int, int, bool]], block: Block) -> bool:
    """Whether the block's places are there once each, with ascending rows, as every writer leaves them."""
    at = block.start
    for position, _, count, _ in inside:
        if position != at or count < 1:
            return False
        at += count
    return at == block.start + block.rows and all(a[1] < b[1] for a, b in pairwise(inside))


def _is_sound(segments: Segments, block: Block) -> bool:
    try:
        return segments.is_sound(block)
    except CorruptCollection:
        return False
