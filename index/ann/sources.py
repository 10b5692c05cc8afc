"""Where the full vectors are that proposals are scored with: in memory, or in the collection's own files."""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mmseek.errors import CorruptCollection
from mmseek.index.ann.places import ends_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray
    from mmseek.index.ann.places import Places
    from mmseek.index.segments import Segments
    from mmseek.protocols import RowArray

_FEW = 512  # rows that are read one by one
_MOST_MAPPED = 64 * 2**20  # bytes of the files that may count as this process's memory before they are given back
_AROUND = 65536  # what the system maps around a page that is touched, if it has it in its cache


class VectorSource(Protocol):
    """Full vectors by position, 0 to n - 1."""

    def take(self, positions: RowArray) -> FloatArray:
        """The vectors (n, dim) at these positions (n,)."""
        ...


class ArraySource:
    """Vectors (n, dim) in memory."""

    def __init__(self, vectors: FloatArray) -> None:
        self._vectors = vectors

    def take(self, positions: RowArray) -> FloatArray:
        return self._vectors[positions]


class MappedSource:
    """Vectors in a collection's segment files, mapped. Files that a compaction unlinks stay readable until closed.

    Args:
        segments: the collection's files.
        dim: columns of a vector.
        places: where each position's vector is; those that are gone are not asked for.
        used: rows of each segment that is needed; counted, if not given.
        sparing: read a few rows with system calls instead of touching the mapped pages. The system maps up to two
            megabytes around a page that is touched, which soon counts all vectors as this process's memory; a call
            takes a microsecond a row more.

    Raises:
        CorruptCollection: a file is missing or too short.
    """

    def __init__(
        self,
        segments: Segments,
        dim: int,
        places: Places,
        used: Mapping[int, int] | None = None,
        *,
        sparing: bool = False,
    ) -> None:
        self._dim = dim
        self._places = places
        self._maps: dict[int, mmap.mmap] = {}
        self._views: dict[int, FloatArray] = {}
        self._files: dict[int, int] = {}
        self._sparing = sparing and hasattr(os, "preadv")
        self._guard = threading.Lock()
        self._taken = 0
        for number, rows in (ends_of(places) if used is None else used).items():
            self._map(segments.path(number), number, rows)
        self._views = dict(sorted(self._views.items()))
        self._numbers = np.array(list(self._views), dtype=np.int32)

    def _map(self, path: Path, number: int, rows: int) -> None:
        try:
            with path.open("rb") as file:
                if self._sparing:
                    self._files[number] = os.dup(file.fileno())
                    weakref.finalize(self, os.close, self._files[number])
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise CorruptCollection(f"{path} cannot be read: run `mmseek verify`") from error
        if len(mapped) < rows * self._dim * 4:
            raise CorruptCollection(f"{path} ends early: run `mmseek verify`")
        if hasattr(mmap, "MADV_RANDOM"):
            mapped.madvise(mmap.MADV_RANDOM)  # single rows are read: reading ahead would be for nothing
        usable = len(mapped) // (self._dim * 4)
        self._maps[number] = mapped
        self._views[number] = np.frombuffer(mapped, dtype="<f4", count=usable * self._dim).reshape(usable, self._dim)

    def take(self, positions: RowArray) -> FloatArray:
        segments, inside = self._places.segments[positions], self._places.positions[positions]
        if not len(positions):
            return np.empty((0, self._dim), dtype=np.float32)
        if self._sparing and len(positions) <= _FEW:
            return self._read(segments, inside)
        if len(self._views) == 1:
            found: FloatArray = next(iter(self._views.values()))[inside]
        else:
            found = np.empty((len(positions), self._dim), dtype=np.float32)
            order = np.argsort(segments, kind="stable")
            ends = np.searchsorted(segments[order], self._numbers, side="right").tolist()
            start = 0
            for view, end in zip(self._views.values(), ends, strict=True):
                if end > start:
                    here = order[start:end]
                    found[here] = view[inside[here]]
                    start = end
        self._forget(len(positions))
        return found

    def _read(self, segments: NDArray[np.int32], inside: NDArray[np.int32]) -> FloatArray:
        size = self._dim * 4
        found = np.empty((len(inside), self._dim), dtype="<f4")
        room = found.data.cast("B")
        for turn, (segment, place) in enumerate(zip(segments.tolist(), inside.tolist(), strict=True)):
            if os.preadv(self._files[segment], [room[turn * size : (turn + 1) * size]], place * size) != size:
                raise CorruptCollection(f"segment {segment} ends early: run `mmseek verify`")
        return found

    def _forget(self, rows: int) -> None:
        """Now and then give the mapped pages back: they stay in the system's cache, but are not this process's."""
        with self._guard:
            self._taken += rows * max(_AROUND, self._dim * 4)
            full = self._taken > _MOST_MAPPED
            self._taken = 0 if full else self._taken
        if full and hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self._maps.values():
                mapped.madvise(mmap.MADV_DONTNEED)


def in_pieces(source: VectorSource, positions: RowArray, size: int = 8192) -> Iterator[FloatArray]:
    """The vectors at these positions, in order, a few at a time."""
    for low in range(0, len(positions), size):
        yield source.take(positions[low : low + size])
