"""MaxSim over many documents (Khattab and Zaharia 2020, arXiv:2004.12832).

For each vector of the query the largest inner product with one of the document, summed.

Documents are scored in float32, in blocks that fit into a core's cache; what might be among the best is scored once
more, each document by itself in float64. So a document has the same score, to the bit, however it was found.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mmseek.errors import CorruptCollection
from mmseek.index.scoring import best_of, error_bound
from mmseek.index.tokens.arrays import widen
from mmseek.index.tokens.files import TokenFiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray
    from mmseek.index.segments import HalfArray
    from mmseek.protocols import RowArray

_READ_VALUES = 2**21  # numbers that are read at once
_BLOCK_VALUES = 2**17  # numbers that are multiplied at once
_SPARSE = 2  # documents whose span in a file is so many times as long as they are, are read one by one
_MOST_AT_ONCE = 4096  # documents
_ROOM = 1024


class TokenIndex:
    """Where the tokens of living documents are. Searches may run in several threads; add and remove need to be alone.

    Args:
        files: the tokens.
        dim: columns of a vector.
    """

    def __init__(self, files: TokenFiles, dim: int) -> None:
        self.files = files
        self._dim = dim
        self._buffer: RowArray = np.empty((_ROOM, 4), dtype=np.int64)
        self._alive_buffer: NDArray[np.bool_] = np.zeros(_ROOM, dtype=bool)
        self._length = 0
        self._living = 0
        self._measuring = threading.Lock()
        self._longest = 0.0  # length of the longest vector of the documents before this position:
        self._measured = 0

    def __len__(self) -> int:
        return self._living

    @property
    def _places(self) -> RowArray:
        """(n, 4) of row, segment, start, count, by row; the dead are among them."""
        return self._buffer[: self._length]

    @property
    def _alive(self) -> NDArray[np.bool_]:
        return self._alive_buffer[: self._length]

    def add(self, places: RowArray) -> None:
        """Add documents: (n, 4) of row, segment, start, count; rows ascend and come after those there are."""
        total = self._length + len(places)
        if total > len(self._buffer):
            more = max(total, 2 * len(self._buffer)) - len(self._buffer)
            self._buffer = np.concatenate([self._buffer, np.empty((more, 4), dtype=np.int64)])
            self._alive_buffer = np.concatenate([self._alive_buffer, np.zeros(more, dtype=bool)])
        self._buffer[self._length : total] = places
        self._alive_buffer[self._length : total] = True
        self._length = total
        self._living += len(places)

    def remove(self, rows: RowArray) -> None:
        """Forget these rows; unknown ones are ignored."""
        positions = self._positions(rows)
        self._alive[positions] = False
        self._living -= len(positions)

    def search(
        self, query: FloatArray, k: int, *, allowed: RowArray | None = None, excluded: RowArray | None = None
    ) -> tuple[RowArray, FloatArray]:
        """The best k rows of a query (tokens, dim) and their scores, best first; equal scores by row.

        `allowed` restricts to some rows, `excluded` leaves some out. Fewer where there are not so many.

        Raises:
            CorruptCollection: a file ends early.
        """
        mask = self._alive.copy() if allowed is None else np.zeros_like(self._alive)
        if allowed is not None:
            mask[self._positions(allowed)] = True
        if excluded is not None:
            mask[self._positions(excluded)] = False
        pool = np.flatnonzero(mask)
        if k < len(pool):
            scores = self._scores(query, pool)
            bar = np.partition(scores, len(pool) - k)[len(pool) - k]
            pool = pool[scores >= bar - float(error_bound(self._dim, self._length_of_longest(), query).sum())]
        exact = np.array([self._exact(query, position) for position in pool.tolist()], dtype=np.float32)
        return best_of(self._places[pool, 0], exact, k)

    def matrix(self, row: int) -> HalfArray:
        """The vectors of a living document, float16 (tokens, dim)."""
        (position,) = self._positions(np.array([row]))
        return self.files.read(*self._places[position, 1:].tolist())

    def _length_of_longest(self) -> float:
        """Of all vectors, the dead ones too; what was measured before is not read again."""
        with self._measuring:
            for halves, _ in self._pieces(np.arange(self._measured, self._length)):
                wide = halves.astype(np.float32)
                self._longest = max(self._longest, float(np.sqrt(np.einsum("ij,ij->i", wide, wide).max())))
            self._measured = self._length
            return self._longest

    def _scores(self, query: FloatArray, pool: RowArray) -> NDArray[np.float64]:
        """MaxSim (n,) of documents at these positions, in float32."""
        scores = np.empty(len(pool), dtype=np.float64)
        scorer = _Scorer(query)
        done = 0
        for halves, counts in self._pieces(pool):
            scores[done : done + len(counts)] = scorer.score(halves, counts)
            done += len(counts)
        return scores

    def _pieces(self, pool: RowArray) -> Iterator[tuple[HalfArray, RowArray]]:
        """The tokens of documents at these positions, one after the other, with their counts; a few MB at a time."""
        places = self._places[pool]
        most = max(1, _READ_VALUES // self._dim)
        low = 0
        while low < len(places):
            segment, first = places[low, 1:3].tolist()
            here = places[low : low + _MOST_AT_ONCE]
            ends = here[:, 2] + here[:, 3]
            # Of one file, in order, and not too long: at least one document.
            inside = (here[:, 1] == segment) & (ends - first <= most) & (here[:, 2] >= first)
            high = low + max(1, int(np.argmin(inside)) if not inside.all() else len(here))
            yield self._read(places[low:high])
            low = high

    def _read(self, places: RowArray) -> tuple[HalfArray, RowArray]:
        segment, first = places[0, 1:3].tolist()
        counts = places[:, 3]
        span, needed = int((places[:, 2] + counts).max()) - first, int(counts.sum())
        if span > _SPARSE * needed:
            return np.concatenate([self.files.read(*place[1:].tolist()) for place in places]), counts
        halves = self.files.read(segment, first, span)
        if span > needed:
            halves = halves[_ranges(places[:, 2] - first, counts)]
        return halves, counts

    def _exact(self, query: FloatArray, position: int) -> float:
        document = self.files.read(*self._places[position, 1:].tolist())
        return exact_maxsim(query, document)

    def _positions(self, rows: RowArray) -> RowArray:
        """Where these rows stand; those that are not alive are left out."""
        rows = np.unique(np.asarray(rows, dtype=np.int64))
        known = self._places[:, 0]
        if not len(known) or not len(rows):
            return np.empty(0, dtype=np.int64)
        place = np.minimum(np.searchsorted(known, rows), len(known) - 1)
        found: RowArray = place[(known[place] == rows) & self._alive[place]]
        return found


def exact_maxsim(query: FloatArray, document: FloatArray | HalfArray) -> float:
    """MaxSim of one document (n, dim) by itself, in float64: it depends on nothing else."""
    products = np.asarray(query, dtype=np.float64) @ np.asarray(document, dtype=np.float64).T
    return float(products.max(axis=1).sum())


class _Scorer:
    """MaxSim in float32 of one query, with the memory that it needs for each block."""

    def __init__(self, query: FloatArray) -> None:
        self._turned = np.ascontiguousarray(query.T)
        self._rows = max(1, _BLOCK_VALUES // query.shape[1])
        self._wide = np.empty((self._rows, query.shape[1]), dtype=np.float32)

    def score(self, halves: HalfArray, counts: RowArray) -> NDArray[np.float64]:
        """Scores (n,) of documents whose rows stand one after the other."""
        products = np.empty((len(halves), self._turned.shape[1]), dtype=np.float32)
        for low in range(0, len(halves), self._rows):
            part = halves[low : low + self._rows]
            wide = widen(part, self._wide[: len(part)])
            np.matmul(wide, self._turned, out=products[low : low + len(part)])
        starts = np.cumsum(counts) - counts
        best = np.maximum.reduceat(np.ascontiguousarray(products.T), starts, axis=1)
        if not np.isfinite(best).all():
            raise CorruptCollection("a stored vector is not finite: run `mmseek verify`")
        scores: NDArray[np.float64] = best.sum(axis=0, dtype=np.float64)
        return scores


def _ranges(starts: RowArray, counts: RowArray) -> RowArray:
    """The numbers start, start + 1 ... of each pair, one after the other."""
    ends = np.cumsum(counts)
    steps = np.arange(int(ends[-1]))
    ranges: RowArray = steps + np.repeat(starts - (ends - counts), counts)
    return ranges
