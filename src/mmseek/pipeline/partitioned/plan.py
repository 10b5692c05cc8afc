"""The plan of a run: each document goes to the partition that its id names, in the order of the corpus.

A partition is a file of lines `ORDER<TAB>PLACE<TAB>DOCUMENT`, read by whichever worker gets it. Its signature covers
the documents and the sizes and times of the picture files that they refer to: equal signatures mean equal content.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mmseek._types import Content, Document
from mmseek.errors import ItemError, MmseekError
from mmseek.index.corpus import Deferred, Ended, Skipped
from mmseek.index.durable import storage_errors
from mmseek.pipeline.jobs import Ids, bare, failure, loaded, picture_paths
from mmseek.pipeline.partitioned.lines import from_line, to_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from hashlib import _Hash

    from mmseek.index.corpus import Entry

__all__ = ["Partition", "Plan", "make_plan", "partition_of", "read_partition"]

_BUFFERS = 64 * 1024**2
_BUFFER = 64 * 1024


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of a plan: its number, how many documents it has, and its signature in hex."""

    number: int
    items: int
    signature: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to do.

    Args:
        partitions: those that have documents, by number.
        failed: items that could not be read, each with its place in the order of the corpus.
        skipped: files that are no documents.
        ended: files that were read to their end.
        ids: of all documents.
    """

    partitions: tuple[Partition, ...]
    failed: tuple[tuple[int, ItemError], ...]
    skipped: tuple[Skipped, ...]
    ended: tuple[Ended, ...]
    ids: Ids


def partition_of(identifier: str, partitions: int) -> int:
    """The partition of an id, from 0: the same on every machine and in every run."""
    key = hashlib.blake2b(identifier.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(key, "big") % partitions


def make_plan(
    entries: Iterable[Entry],
    folder: Path,
    partitions: int,
    *,
    is_held: Callable[[str, str], bool] = lambda _name, _digest: False,
    on_entry: Callable[[], None] = lambda: None,
) -> Plan:
    """Write the partitions of a corpus into a folder, in memory of the ids and at most 64 MiB.

    Args:
        entries: the corpus.
        folder: there is one, and it is empty.
        partitions: how many.
        is_held: whether the collection holds the document of an id with this digest. Then a document that is made when
            it is needed, the page of a PDF, is not made, and stands in the plan without content.
        on_entry: called for each.

    Raises:
        StorageError: the disk is full or read-only.
    """
    writer = _Writer(folder, partitions)
    ids, failed, skipped, ended = Ids(), list[tuple[int, ItemError]](), list[Skipped](), list[Ended]()
    for order, entry in enumerate(entries):
        on_entry()
        if isinstance(entry, Skipped):
            skipped.append(entry)
        elif isinstance(entry, ItemError):
            failed.append((order, bare(entry)))
        elif isinstance(entry, Ended):
            ended.append(entry)
        else:
            try:
                ids.check(entry)
                _add(writer, order, entry, is_held)
            except MmseekError as error:
                failed.append((order, failure(entry, error)))
    return Plan(writer.finish(), tuple(failed), tuple(skipped), tuple(ended), ids)


def _add(writer: _Writer, order: int, entry: Document | Deferred, is_held: Callable[[str, str], bool]) -> None:
    if isinstance(entry, Document):
        writer.add(order, entry)
    elif is_held(entry.id, entry.digest):
        writer.add(order, Document(entry.id, Content(())), entry.digest)
    else:
        writer.add(order, loaded(entry), entry.digest)


def read_partition(folder: Path, number: int) -> Iterator[tuple[int, bytes, Document]]:
    """The documents of a partition: place in the order of the corpus, line, document.

    Raises:
        MmseekError: this machine does not see the folder.
    """
    path = _path(folder, number)
    try:
        file = path.open("rb")
    except OSError as error:
        raise MmseekError(
            f"{path} cannot be read by a worker ({error.strerror}): put collection and corpus into a folder that all "
            "machines of the cluster share"
        ) from error
    with file:
        for row in file:
            order, _, line = row.rstrip(b"\n").partition(b"\t")
            yield int(order), line, from_line(line)


@dataclass(slots=True)
class _Open:
    """A partition that is being written."""

    items: int = 0
    state: _Hash = field(default_factory=hashlib.sha256)
    waiting: bytearray = field(default_factory=bytearray)


class _Writer:
    def __init__(self, folder: Path, partitions: int) -> None:
        self._folder = folder
        self._count = partitions
        self._most = min(_BUFFER, _BUFFERS // partitions)
        self._open: dict[int, _Open] = {}

    def add(self, order: int, document: Document, digest: str | None = None) -> None:
        """Add a document; what it is is told by its digest alone if it brought one."""
        line = to_line(document, digest)
        number = partition_of(document.id, self._count)
        found = self._open.setdefault(number, _Open())
        found.items += 1
        if digest is None:
            found.state.update(line.partition(b"\t")[2] + b"\n" + _stamps(document))
        else:
            found.state.update(f"{document.id!r} {digest}\n".encode("utf-8", "surrogatepass"))
        found.waiting += b"%d\t%s\n" % (order, line)
        if len(found.waiting) >= self._most:
            self._flush(number, found)

    def finish(self) -> tuple[Partition, ...]:
        for number, found in self._open.items():
            self._flush(number, found)
        return tuple(
            Partition(number, found.items, found.state.hexdigest()) for number, found in sorted(self._open.items())
        )

    def _flush(self, number: int, found: _Open) -> None:
        with storage_errors(self._folder), _path(self._folder, number).open("ab") as file:
            file.write(found.waiting)
        found.waiting.clear()


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.items"


def _stamps(document: Document) -> bytes:
    """Size and times of the picture files. The time of the last change of a file's facts cannot be set back."""
    stamps = []
    for path in dict.fromkeys(picture_paths(document)):
        try:
            facts = os.stat(path)  # noqa: PTH116  # a path of odd bytes as well
            stamps.append(f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}")
        except (OSError, ValueError):
            stamps.append("absent")
    return ("\n".join(stamps) + "\n").encode("ascii") if stamps else b""
