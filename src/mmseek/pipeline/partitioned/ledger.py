"""The ledger beside a collection: which partitions are finished. Lost or damaged, it costs time and nothing else.

JSON Lines: first what the run is about, then one line for each partition that was finished, flushed to the medium. A
partition counts as finished only while its signature is the same and the collection holds the same digests.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mmseek.index.durable import replace_file, storage_errors, sync, write_all
from mmseek.pipeline.partitioned.plan import Partition

__all__ = ["Checksum", "Head", "Ledger", "mark"]

_MODULUS = 1 << 256


@dataclass(frozen=True, slots=True)
class Head:
    """What the entries of a ledger are about: another collection, encoder or number of partitions voids them all."""

    collection: str
    created_at: str
    fingerprint: str
    partitions: int
    format: int = 1


def mark(identifier: str, digest: str) -> bytes:
    """32 bytes that say: this id is stored with this digest."""
    return hashlib.sha256(f"{digest} {identifier}".encode()).digest()


class Checksum:
    """Of the marks of a partition's documents, in whatever order they come."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, mark: bytes) -> None:
        """Count a document in by its mark."""
        self._sum = (self._sum + int.from_bytes(mark, "big")) % _MODULUS

    def __str__(self) -> str:
        return f"{self._sum:064x}"


class Ledger:
    """A ledger that is open for writing. What cannot be read is taken as not finished.

    Raises:
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path, head: Head) -> None:
        self._path = path
        self._finished = _read(path, head)
        rows = [asdict(head), *self._finished.values()]
        with storage_errors(path):
            replace_file(path, "".join(json.dumps(row) + "\n" for row in rows).encode("ascii"))
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def stored(self, partition: Partition) -> str | None:
        """The checksum of the marks of a partition that was finished as it is now; None if it was not."""
        row = self._finished.get(partition.number)
        if row is None or (row["items"], row["signature"]) != (partition.items, partition.signature):
            return None
        return str(row["stored"])

    def finish(self, partition: Partition, stored: Checksum) -> None:
        """Note a partition as finished; durable on return.

        Raises:
            StorageError: the disk is full or failing.
        """
        row = {**asdict(partition), "stored": str(stored)}
        if self._finished.get(partition.number) == row:
            return
        with storage_errors(self._path):
            write_all(self._fd, (json.dumps(row) + "\n").encode("ascii"))
            sync(self._fd)
        self._finished[partition.number] = row


def _read(path: Path, head: Head) -> dict[int, dict[str, Any]]:
    try:
        first, *rows = path.read_bytes().splitlines() or [b""]
    except OSError:
        return {}
    if _parse(first) != asdict(head):
        return {}
    found = (_parse(row) for row in rows)  # the last line of a killed run may be torn
    return {row["number"]: row for row in found if row is not None and row.keys() == _KEYS}


_KEYS = {"number", "items", "signature", "stored"}


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
