"""What travels between the workers: one row for each document, in tables of Arrow."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import pyarrow as pa

from mmseek.errors import MmseekError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Row", "Status", "problem", "read_rows", "table"]


class Status(IntEnum):
    """How far a document is."""

    CHANGED = 0
    ENCODED = 1
    STORED = 2
    UNCHANGED = 3
    FAILED = 4
    PROBLEM = 5  # of the worker, not of a document: the run ends


@dataclass(frozen=True, slots=True)
class Row:
    """A document on its way.

    Args:
        partition, position: which document: it is told by these alone.
        order: its place in the corpus.
        status: how far it is.
        line: as in `lines`; empty where nobody needs it any more.
        digest: of the document.
        mark: as in `ledger`.
        vector: little-endian float32.
        reason: what was wrong.
    """

    partition: int
    position: int
    order: int
    status: int
    line: bytes = b""
    digest: str = ""
    mark: bytes = b""
    vector: bytes = b""
    reason: str = ""


_SCHEMA = pa.schema(
    [
        ("partition", pa.int32()),
        ("position", pa.int64()),
        ("order", pa.int64()),
        ("status", pa.int8()),
        ("line", pa.large_binary()),
        ("digest", pa.string()),
        ("mark", pa.binary()),
        ("vector", pa.large_binary()),
        ("reason", pa.string()),
    ]
)


def table(rows: Iterable[Row]) -> pa.Table:
    """Rows as a table; none of them is a table too."""
    columns = list(zip(*map(astuple, rows), strict=True)) or [()] * len(_SCHEMA)
    return pa.table(
        [pa.array(column, kind.type) for column, kind in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA
    )


def read_rows(found: pa.Table) -> Iterator[Row]:
    """The rows of a table."""
    columns = (found.column(name).to_pylist() for name in _SCHEMA.names)
    return (Row(*values) for values in zip(*columns, strict=True))


def problem(error: MmseekError) -> pa.Table:
    """A worker's own problem, for the run to end with."""
    return table([Row(-1, -1, -1, Status.PROBLEM, reason=str(error))])
