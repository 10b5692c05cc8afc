"""Exact ranking by inner product, in blocks, with equal scores ordered against the relevant documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray

    Rows: TypeAlias = NDArray[np.int64]

_SCORES_AT_ONCE = 2**25  # 128 MiB of float32 scores
_NUMBERS_AT_ONCE = 2**22  # 32 MiB of float64 vectors


@dataclass(frozen=True, slots=True)
class Pool:
    """What one query ranks, in rows of the corpus. No list has a row twice.

    Args:
        relevant: rows of its relevant documents.
        grades: their grades, at least 1.
        excluded: rows that are never ranked.
        candidates: if given, only these rows are ranked.
    """

    relevant: Rows
    grades: Rows
    excluded: Rows
    candidates: Rows | None = None

    def rows(self, size: int) -> Rows:
        """The rows that are ranked, ascending, out of a corpus of `size` documents."""
        rows = np.arange(size) if self.candidates is None else self.candidates
        return np.setdiff1d(rows, self.excluded, assume_unique=True) if len(self.excluded) else rows

    def count(self, size: int) -> int:
        """How many rows are ranked, without listing a whole corpus."""
        return size - len(self.excluded) if self.candidates is None else len(self.rows(size))

    def holds(self, rows: Rows) -> NDArray[np.bool_]:
        """Which of some rows of the corpus are ranked."""
        allowed = np.ones(len(rows), dtype=bool) if self.candidates is None else np.isin(rows, self.candidates)
        return allowed & ~np.isin(rows, self.excluded)


@dataclass(frozen=True, slots=True)
class Ranked:
    """The first rows of one query's ranking, best first.

    `tied` says whether another order of equal scores would change which grade stands at some place of it.
    """

    rows: Rows
    tied: bool


def rank(queries: FloatArray, documents: FloatArray, pools: Sequence[Pool], k: int) -> Iterator[Ranked]:
    """Rank all documents of each query's pool and give the first k.

    Products are summed in float64 and rounded to float32: equal vectors get equal scores whatever their place in a
    block of the matrix product, so that ties are seen as ties.

    Args:
        queries: shape (n, dim).
        documents: shape (m, dim).
        pools: n of them.
        k: how many places, at least 1.
    """
    size = len(documents)
    block = max(1, _SCORES_AT_ONCE // max(size, 1))
    for start in range(0, len(queries), block):
        part = queries[start : start + block].astype(np.float64)
        scores = _products(part, documents)
        for row, pool in zip(scores, pools[start : start + block], strict=True):
            yield _rank_one(row, pool, k)


def _products(queries: NDArray[np.float64], documents: FloatArray) -> FloatArray:
    scores = np.empty((len(queries), len(documents)), dtype=np.float32)
    step = max(1, _NUMBERS_AT_ONCE // max(documents.shape[1], 1))
    for start in range(0, len(documents), step):
        scores[:, start : start + step] = queries @ documents[start : start + step].astype(np.float64).T
    return scores


def _rank_one(scores: FloatArray, pool: Pool, k: int) -> Ranked:
    gains = np.zeros(len(scores), dtype=np.int64)
    gains[pool.relevant] = pool.grades
    rows = pool.rows(len(scores))
    scores, gains = scores[rows], gains[rows]
    if len(rows) > k:
        # All that could stand among the first k: whatever equals the k-th score too.
        kept = np.flatnonzero(scores >= np.partition(scores, len(rows) - k)[len(rows) - k])
        rows, scores, gains = rows[kept], scores[kept], gains[kept]
    worst = np.lexsort((rows, gains, -scores))[:k]
    best = np.lexsort((rows, -gains, -scores))[:k]
    return Ranked(rows[worst], bool(np.any(gains[worst] != gains[best])))
