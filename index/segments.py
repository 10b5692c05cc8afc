"""Vectors on disk: append-only files of raw little-endian rows, each a matrix by itself.

`vectors/000001.f32` has one float32 row a document; of a multi-vector collection `tokens/000001.f16` has the float16
rows of all tokens, those of a document one after the other.

The ledger says which bytes of them exist. What it does not point to (the torn end after a crash, the file that a
compaction did not come to use) is nothing, and is removed by the next writer.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmseek.errors import CorruptCollection
from mmseek.index.durable import make_folder, sync, sync_folder, write_all

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from mmseek._types import FloatArray
    from mmseek.protocols import RowArray

    HalfArray: TypeAlias = NDArray[np.float16]

FOLDER = "vectors"
FOLDER_OF_TOKENS = "tokens"
SEGMENT_BYTES = 256 * 2**20
_READ_BYTES = 4 * 2**20

_NAME = re.compile(rf"{FOLDER}/[0-9]{{6,}}\.f32|{FOLDER_OF_TOKENS}/[0-9]{{6,}}\.f16")


class Layout(NamedTuple):
    """Where a kind of rows is, and what they are made of."""

    folder: str
    suffix: str
    dtype: str


ROWS = Layout(FOLDER, ".f32", "<f4")
TOKENS = Layout(FOLDER_OF_TOKENS, ".f16", "<f2")


def is_segment_name(name: str) -> bool:
    """Whether a path inside a collection, with forward slashes, is that of a vector file."""
    return _NAME.fullmatch(name) is not None


class Block(NamedTuple):
    """`rows` rows from `start` on in a segment, written at once, with the checksum of their bytes."""

    segment: int
    start: int
    rows: int
    checksum: bytes


def block_checksum(data: bytes | memoryview) -> bytes:
    """16 bytes over a block's content."""
    return hashlib.blake2b(data, digest_size=16).digest()


class Segments:
    """The vector files of one collection.

    Args:
        root: the collection's folder.
        dim: columns of every row.
        limit: bytes after which a new file is begun.
        layout: of which kind.
    """

    def __init__(self, root: Path, dim: int, limit: int = SEGMENT_BYTES, layout: Layout = ROWS) -> None:
        self.folder = root / layout.folder
        self.limit = limit
        self.layout = layout
        self._dim = dim
        self._row_bytes = np.dtype(layout.dtype).itemsize * dim

    @property
    def dim(self) -> int:
        """Columns of every row."""
        return self._dim

    def path(self, segment: int) -> Path:
        return self.folder / f"{segment:06d}{self.layout.suffix}"

    def existing(self) -> list[int]:
        """Numbers of the files there are, ascending."""
        names = (path.stem for path in self.folder.glob(f"*{self.layout.suffix}"))
        return sorted(int(name) for name in names if name.isdecimal())

    def append(self, segment: int, start: int, vectors: FloatArray | HalfArray) -> Block:
        """Write rows (n, dim) at row `start` of a segment; durable on return, existing once the ledger says so.

        Raises:
            OSError: the disk is full or failing; nothing that existed is changed.
        """
        data = np.ascontiguousarray(vectors, dtype=self.layout.dtype).data.cast("B")
        make_folder(self.folder)
        path = self.path(segment)
        new = not path.exists()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        try:
            os.lseek(fd, start * self._row_bytes, os.SEEK_SET)
            write_all(fd, data)
            sync(fd)
        except OSError:
            os.ftruncate(fd, start * self._row_bytes)
            raise
        finally:
            os.close(fd)
        if new:
            sync_folder(self.folder)
        return Block(segment, start, len(vectors), block_checksum(data))

    def is_full(self, rows: int, more: int) -> bool:
        """Whether `more` rows after `rows` belong in a new file. One block never spans two files."""
        return rows > 0 and (rows + more) * self._row_bytes > self.limit

    def cut(self, used: Mapping[int, int]) -> None:
        """Remove what does not exist by the ledger; `used` gives the rows of each segment it knows.

        Raises:
            CorruptCollection: a file is missing or shorter than the ledger says.
        """
        for segment in self.existing():
            path = self.path(segment)
            if segment not in used:
                path.unlink(missing_ok=True)
            elif path.stat().st_size > used[segment] * self._row_bytes:
                os.truncate(path, used[segment] * self._row_bytes)
        for segment, rows in used.items():
            with self._opened(segment, rows):
                pass

    @contextmanager
    def pinned(self, used: Mapping[int, int]) -> Iterator[Segments]:
        """The same segments with their files held open; for one thread.

        Raises:
            CorruptCollection: a file is missing or shorter than the ledger says.
        """
        held = _Pinned(self.folder.parent, self._dim, self.limit, self.layout)
        with ExitStack() as stack:
            for segment, rows in used.items():
                held.files[segment] = stack.enter_context(self._opened(segment, rows))
            yield held

    @contextmanager
    def _opened(self, segment: int, rows: int) -> Iterator[BufferedReader]:
        with self.opened(segment, rows) as file:
            yield file

    def opened(self, segment: int, rows: int) -> BufferedReader:
        """The file of a segment that holds at least `rows` rows; for the caller to close.

        Raises:
            CorruptCollection: the file is missing or too short.
        """
        path = self.path(segment)
        try:
            file = path.open("rb")
        except OSError as error:
            raise CorruptCollection(
                f"{path} cannot be read ({error.strerror}): restore it from a backup, or index again into a new folder"
            ) from error
        size = os.fstat(file.fileno()).st_size
        if size < rows * self._row_bytes:
            file.close()
            raise CorruptCollection(
                f"{path} has {size} bytes where the ledger counts {rows * self._row_bytes}: "
                "restore it from a backup, or index again into a new folder"
            )
        return file

    def read(self, segment: int, positions: RowArray) -> Iterator[FloatArray]:
        """Rows at ascending positions of one segment, a few megabytes of the file in memory at a time.

        Reads instead of mapping: mapped pages would count as this process's memory beside the index they fill.

        Raises:
            CorruptCollection: the file is missing or too short.
        """
        wanted = np.asarray(positions, dtype=np.int64)
        if not len(wanted):
            return
        chunk = max(1, _READ_BYTES // self._row_bytes)
        with self._opened(segment, int(wanted[-1]) + 1) as file:
            for low in range(int(wanted[0]), int(wanted[-1]) + 1, chunk):
                first, last = np.searchsorted(wanted, (low, low + chunk))
                if first == last:
                    continue
                inside = wanted[first:last]
                begin, end = int(inside[0]), int(inside[-1]) + 1
                file.seek(begin * self._row_bytes)
                rows = np.empty((end - begin, self._dim), dtype=self.layout.dtype)
                if file.readinto(rows.data.cast("B")) != rows.nbytes:
                    raise CorruptCollection(f"{self.path(segment)} ends early: run `mmseek verify`")
                yield rows if len(inside) == len(rows) else rows[inside - begin]

    def raw(self, segment: int, rows: int) -> Iterator[bytes]:
        """The bytes of a segment's first rows, in pieces.

        Raises:
            CorruptCollection: the file is missing or too short.
        """
        left = rows * self._row_bytes
        with self._opened(segment, rows) as file:
            file.seek(0)
            while left and (piece := file.read(min(left, 1 << 20))):
                left -= len(piece)
                yield piece

    def is_sound(self, block: Block) -> bool:
        """Whether a block's bytes are those that were written.

        Raises:
            CorruptCollection: the file is missing or too short.
        """
        digest = hashlib.blake2b(digest_size=16)
        left = block.rows * self._row_bytes
        with self._opened(block.segment, block.start + block.rows) as file:
            file.seek(block.start * self._row_bytes)
            while left and (piece := file.read(min(left, 1 << 20))):
                digest.update(piece)
                left -= len(piece)
        return not left and digest.digest() == block.checksum

    def remove(self, segments: Iterable[int]) -> None:
        for segment in segments:
            self.path(segment).unlink(missing_ok=True)


class _Pinned(Segments):
    """Segments read through files that were opened before."""

    def __init__(self, root: Path, dim: int, limit: int, layout: Layout) -> None:
        super().__init__(root, dim, limit, layout)
        self.files: dict[int, BufferedReader] = {}

    @contextmanager
    def _opened(self, segment: int, rows: int) -> Iterator[BufferedReader]:
        if segment not in self.files:
            with super()._opened(segment, rows) as file:
                yield file
            return
        yield self.files[segment]
