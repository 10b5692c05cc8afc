"""Exact nearest neighbours by inner product with FAISS, in an order that does not depend on how they were found.

FAISS proposes a few more rows than are wanted; their scores are then computed again in one fixed arithmetic, and equal
scores go by row number. So a row has the same score, to the bit, whether it was found alone or in a batch, filtered or
not, before or after others were deleted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import faiss
import numpy as np

from mmseek.errors import InputError
from mmseek.index.scoring import CHUNK, best_of, error_bound, exact_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray
    from mmseek.protocols import RowArray

_MARGIN = 16  # rows asked of FAISS beyond k, so that near-equal scores at the end can be told apart
_MOST_PROPOSED = 2048  # FAISS keeps its best in a heap, which is slow for more than this
_FEW_DEAD = 1024  # below this, removed rows are only skipped


class FaissExactIndex:
    """Rows in memory, dim x 4 bytes each. Searches may run in several threads; add and remove need to be alone.

    Removed rows are skipped by a mask and dropped once they are a quarter of all, so that removing costs little.

    Args:
        dim: columns of a vector.
        capacity: rows to make room for, so that adding them allocates once.
    """

    def __init__(self, dim: int, capacity: int = 0) -> None:
        self._index = faiss.IndexFlatIP(dim)
        self._dim = dim
        self._row_buffer: RowArray = np.empty(0, dtype=np.int64)
        self._alive_buffer: NDArray[np.bool_] = np.empty(0, dtype=bool)
        self._dead = 0
        self._order: RowArray | None = None  # sorts _rows, when they did not come in ascending order
        self._largest = 0.0  # length of the longest vector
        self._reserve(capacity)

    @property
    def dim(self) -> int:
        return self._dim

    def __len__(self) -> int:
        return int(self._index.ntotal) - self._dead

    @property
    def _rows(self) -> RowArray:
        """Row number of each position."""
        return self._row_buffer[: int(self._index.ntotal)]

    @property
    def _alive(self) -> NDArray[np.bool_]:
        """Whether each position has not been removed."""
        return self._alive_buffer[: int(self._index.ntotal)]

    def add(self, rows: RowArray, vectors: FloatArray) -> None:
        rows = np.asarray(rows, dtype=np.int64)
        vectors = self._checked(vectors)
        if rows.shape != (len(vectors),):
            raise InputError(f"{len(vectors)} vectors need as many row numbers, not an array of shape {rows.shape}")
        if not len(rows):
            return
        self._check_new(rows)
        ascending = bool(np.all(rows[1:] > rows[:-1])) and (not len(self._rows) or rows[0] > self._rows[-1])
        if self._order is not None or not ascending:
            self._order = np.argsort(np.concatenate([self._rows, rows]), kind="stable")
        total = len(self) + self._dead
        self._reserve(total + len(rows))
        self._row_buffer[total : total + len(rows)] = rows
        self._alive_buffer[total : total + len(rows)] = True
        self._index.add(vectors)
        self._largest = max(self._largest, float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max())))

    def remove(self, rows: RowArray) -> None:
        positions = self._positions(rows)
        self._alive[positions] = False
        self._dead += len(positions)
        if self._dead > max(_FEW_DEAD, len(self._alive) // 4):
            self._drop_dead()

    def search(
        self, queries: FloatArray, k: int, *, allowed: RowArray | None = None, excluded: RowArray | None = None
    ) -> tuple[RowArray, FloatArray]:
        queries = self._checked(queries)
        if k < 1:
            raise InputError(f"k is the number of hits and must be at least 1, not {k}")
        best_rows = np.full((len(queries), k), -1, dtype=np.int64)
        best_scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        mask = self._mask(allowed, excluded)
        pool = np.flatnonzero(mask) if mask is not None else None
        for number, proposed in enumerate(self._propose(queries, k, mask, pool)):
            found, scores = self._rank(queries[number], k, proposed)
            best_rows[number, : len(found)] = found
            best_scores[number, : len(found)] = scores
        return best_rows, best_scores

    def _mask(self, allowed: RowArray | None, excluded: RowArray | None) -> NDArray[np.bool_] | None:
        """Positions that may be found, or None for all."""
        if allowed is None and excluded is None and not self._dead:
            return None
        mask = self._alive.copy() if allowed is None else np.zeros_like(self._alive)
        if allowed is not None:
            mask[self._positions(allowed)] = True
        if excluded is not None:
            mask[self._positions(excluded)] = False
        return mask

    def _propose(
        self, queries: FloatArray, k: int, mask: NDArray[np.bool_] | None, pool: RowArray | None
    ) -> list[RowArray]:
        """For each query, positions that hold its k best, and few others."""
        total = len(self._rows) if pool is None else len(pool)
        wanted = k + _MARGIN
        if wanted > _MOST_PROPOSED or wanted >= total or total * 8 < len(self._rows):
            return [self._scan(query, k, pool) for query in queries]
        scores, positions = self._ask_faiss(queries, wanted, mask)
        # All that could be among the k best are proposed if the last proposal is clearly worse than the k-th.
        clear = scores[:, -1] < scores[:, k - 1] - self._doubt(queries)
        return [
            positions[number] if clear[number] else self._scan(query, k, pool) for number, query in enumerate(queries)
        ]

    def _ask_faiss(self, queries: FloatArray, k: int, mask: NDArray[np.bool_] | None) -> tuple[FloatArray, RowArray]:
        # FAISS splits one query over all cores and lets them spin between queries: with anything else running on the
        # machine that is several times slower than one core doing it. A selector keeps it to one core, too, but is
        # asked about every row.
        if mask is None and len(queries) == 1:
            with one_core():
                scores, positions = self._index.search(queries, k)
            return scores, positions
        if mask is None:
            selector = faiss.IDSelectorAll()
        else:
            selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        scores, positions = self._index.search(queries, k, params=faiss.SearchParameters(sel=selector))
        return scores, positions

    def _scan(self, query: FloatArray, k: int, pool: RowArray | None) -> RowArray:
        """Like `_propose` for one query, by scoring all rows of the pool."""
        matrix = self._matrix()
        total = len(matrix) if pool is None else len(pool)
        scores = np.empty(total, dtype=np.float32)
        for low in range(0, total, CHUNK):
            part = slice(low, min(low + CHUNK, total))
            scores[part] = (matrix[part] if pool is None else matrix[pool[part]]) @ query
        if k < total:
            bar = np.partition(scores, total - k)[total - k] - self._doubt(query[None])[0]
            kept = np.flatnonzero(scores >= bar)
        else:
            kept = np.arange(total)
        return kept if pool is None else pool[kept]

    def _rank(self, query: FloatArray, k: int, proposed: RowArray) -> tuple[RowArray, FloatArray]:
        matrix = self._matrix()
        scores = np.empty(len(proposed), dtype=np.float32)
        for low in range(0, len(proposed), CHUNK):
            part = slice(low, low + CHUNK)
            scores[part] = exact_scores(matrix[proposed[part]], query)
        return best_of(self._rows[proposed], scores, k)

    def _doubt(self, queries: FloatArray) -> FloatArray:
        return error_bound(self._dim, self._largest, queries)

    def _matrix(self) -> FloatArray:
        """FAISS's own memory, seen as (n, dim); valid until rows are added or dropped."""
        size = int(self._index.ntotal) * self._dim
        if not size:
            return np.empty((0, self._dim), dtype=np.float32)
        matrix: FloatArray = faiss.rev_swig_ptr(self._index.get_xb(), size).reshape(-1, self._dim)
        return matrix

    def _positions(self, rows: RowArray) -> RowArray:
        """Where these rows stand; unknown and removed ones are left out."""
        rows = np.unique(np.asarray(rows, dtype=np.int64))
        if not len(self._rows) or not len(rows):
            return np.empty(0, dtype=np.int64)
        place = np.minimum(np.searchsorted(self._rows, rows, sorter=self._order), len(self._rows) - 1)
        positions = place if self._order is None else self._order[place]
        found: RowArray = positions[(self._rows[positions] == rows) & self._alive[positions]]
        return found

    def _check_new(self, rows: RowArray) -> None:
        if len(np.unique(rows)) < len(rows) or len(self._positions(rows)):
            raise InputError("a row number is already in the index: remove it before adding it again")
        if np.isin(rows, self._rows[~self._alive]).any():
            self._drop_dead()

    def _drop_dead(self) -> None:
        alive, rows = self._alive.copy(), self._rows[self._alive]
        self._index.remove_ids(faiss.IDSelectorBitmap(np.packbits(~alive, bitorder="little")))
        self._rows[:] = rows
        self._alive[:] = True
        self._dead = 0
        self._order = None if self._order is None else np.argsort(rows, kind="stable")

    def _reserve(self, rows: int) -> None:
        """Make room for so many rows, so that FAISS does not double its memory, and hold both, while it is filled."""
        room = len(self._row_buffer)
        if rows <= room:
            return
        rows += room // 4
        codes, size = self._index.codes, int(self._index.codes.size())
        codes.resize(rows * self._dim * 4)
        codes.resize(size)
        self._row_buffer = np.concatenate([self._row_buffer, np.empty(rows - room, dtype=np.int64)])
        self._alive_buffer = np.concatenate([self._alive_buffer, np.zeros(rows - room, dtype=bool)])

    def _checked(self, vectors: FloatArray) -> FloatArray:
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self._dim:
            raise InputError(f"this index has vectors of shape (n, {self._dim}), not {vectors.shape}")
        return vectors


@contextmanager
def one_core() -> Iterator[None]:
    """FAISS on one core, for the calling thread alone: OpenMP keeps the number for each thread."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
