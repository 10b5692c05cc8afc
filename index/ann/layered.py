"""A vector index in two layers: a base that is built once, and an exact delta of what came since.

The base only proposes; every score is computed from full vectors in the arithmetic of the exact index. So a row's score
is the same in the base, in the delta and without any of this, and both layers' hits merge as if they were one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmseek.errors import InputError
from mmseek.index.ann.plan import Plan
from mmseek.index.ann.proposer import Proposer
from mmseek.index.ann.sources import VectorSource
from mmseek.index.exact import FaissExactIndex
from mmseek.index.scoring import CHUNK, best_of, error_bound, exact_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray
    from mmseek.protocols import RowArray

_FEW = 1024  # rows that are always all scored
_MARGIN = 16
_MOST_PROPOSED = 16_384  # FAISS's heaps are slow for more


@dataclass(frozen=True, slots=True)
class Base:
    """A built index: row numbers (n,) ascending, what proposes, and the full vectors, all in one order.

    `longest` is the length of the longest of them.
    """

    rows: RowArray
    proposer: Proposer
    source: VectorSource
    plan: Plan
    longest: float


class LayeredIndex:
    """A `VectorIndex`. Searches may run in several threads; add and remove need to be alone.

    Filters are exact at any selectivity: what is found is allowed, and as many as there are, up to k, are found. Few
    allowed rows are all scored; with many the base looks the further the fewer they are.

    Args:
        dim: columns of a vector.
        base: what was built; without it all rows are in the delta.
        few: so many allowed rows, or as many as take no longer than the base, are scored without it.
    """

    def __init__(self, dim: int, base: Base | None = None, few: int = _FEW) -> None:
        self._dim = dim
        self._few = few
        self._base = base
        self._delta = FaissExactIndex(dim)
        self._alive: NDArray[np.bool_] = np.ones(0 if base is None else len(base.rows), dtype=bool)
        self._living = len(self._alive)

    @property
    def dim(self) -> int:
        return self._dim

    def __len__(self) -> int:
        return self._living + len(self._delta)

    @property
    def base(self) -> Base | None:
        return self._base

    @property
    def delta_rows(self) -> int:
        """How many rows came since the base was built."""
        return len(self._delta)

    def add(self, rows: RowArray, vectors: FloatArray) -> None:
        if len(self._positions(np.asarray(rows, dtype=np.int64))):
            raise InputError("a row number is already in the index: remove it before adding it again")
        self._delta.add(rows, vectors)

    def remove(self, rows: RowArray) -> None:
        positions = self._positions(np.asarray(rows, dtype=np.int64))
        self._alive[positions] = False
        self._living -= len(positions)
        self._delta.remove(rows)

    def search(
        self, queries: FloatArray, k: int, *, allowed: RowArray | None = None, excluded: RowArray | None = None
    ) -> tuple[RowArray, FloatArray]:
        base = self._base
        if base is not None and self._is_plain(queries, k) and allowed is None and excluded is None:
            found = self._plain(base, queries, k)
            if found is not None:
                return found
        if base is None or not self._living or k < 1 or len(self._delta) or queries.shape[1:] != (self._dim,):
            # The delta says what is wrong with a query, too.
            rows, scores = self._delta.search(queries, k, allowed=allowed, excluded=excluded)
        else:
            rows = np.full((len(queries), k), -1, dtype=np.int64)
            scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        if base is None or not self._living:
            return rows, scores
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        mask = self._mask(allowed, excluded)
        living = self._living if mask is None else int(mask.sum())
        if not living:
            return rows, scores
        for number, positions in enumerate(self._propose(base, queries, k, mask, living)):
            found = self._score(base, positions, queries[number], k)
            new = rows[number] >= 0
            every = np.concatenate([found[0], rows[number][new]])
            best, best_scores = best_of(every, np.concatenate([found[1], scores[number][new]]), k)
            rows[number, : len(best)], scores[number, : len(best)] = best, best_scores
        return rows, scores

    def _is_plain(self, queries: FloatArray, k: int) -> bool:
        """Whether it is one query to a base that is all there is, as most are."""
        shape = len(queries) == 1 and queries.shape[1:] == (self._dim,)
        return shape and 0 < k < self._living and self._living == len(self._alive) and not len(self._delta)

    def _plain(self, base: Base, queries: FloatArray, k: int) -> tuple[RowArray, FloatArray] | None:
        """What `search` gives for such a query, with no step that it does not need; None where it needs more."""
        count = max(k * base.plan.rescore, k + _MARGIN)
        if self._living <= self._few or count > _MOST_PROPOSED or 2 * count > self._living:
            return None
        query = np.ascontiguousarray(queries, dtype=np.float32)
        positions = base.proposer.propose(query, count, base.plan, None)[0]
        if positions[-1] < 0:
            return None
        scores = exact_scores(base.source.take(positions), query[0])
        rows, best = best_of(base.rows[positions], scores, k)
        return rows[None], best[None]

    def _propose(
        self, base: Base, queries: FloatArray, k: int, mask: NDArray[np.bool_] | None, living: int
    ) -> list[RowArray]:
        """For each query, positions that hold about its k best living rows of the base."""
        count = max(k * base.plan.rescore, k + _MARGIN)
        few = self._few
        if mask is not None:
            few = max(few, round(base.proposer.cost(base.plan, living / len(base.rows))))
        if living <= few or count > _MOST_PROPOSED or 2 * count > living:
            return [self._all(base, query, k, mask) for query in queries]
        proposed = base.proposer.propose(queries, count, base.plan, mask)
        pools = [positions[positions >= 0] for positions in proposed]
        return [
            pool if len(pool) >= k else self._all(base, query, k, mask)
            for pool, query in zip(pools, queries, strict=True)
        ]

    def _all(self, base: Base, query: FloatArray, k: int, mask: NDArray[np.bool_] | None) -> RowArray:
        """Like `_propose` for one query, exactly: by scoring all that may be found."""
        pool = np.arange(len(base.rows)) if mask is None else np.flatnonzero(mask)
        scores = np.empty(len(pool), dtype=np.float32)
        for low in range(0, len(pool), CHUNK):
            scores[low : low + CHUNK] = base.source.take(pool[low : low + CHUNK]) @ query
        if k >= len(pool):
            return pool
        doubt = error_bound(self._dim, base.longest, query[None])[0]
        bar = np.partition(scores, len(pool) - k)[len(pool) - k] - doubt
        kept: RowArray = pool[scores >= bar]
        return kept

    def _score(self, base: Base, positions: RowArray, query: FloatArray, k: int) -> tuple[RowArray, FloatArray]:
        scores = np.empty(len(positions), dtype=np.float32)
        for low in range(0, len(positions), CHUNK):
            part = positions[low : low + CHUNK]
            scores[low : low + CHUNK] = exact_scores(base.source.take(part), query)
        return best_of(base.rows[positions], scores, k)

    def _mask(self, allowed: RowArray | None, excluded: RowArray | None) -> NDArray[np.bool_] | None:
        """Positions of the base that may be found, or None for all."""
        if allowed is None and excluded is None and self._living == len(self._alive):
            return None
        mask = self._alive.copy() if allowed is None else np.zeros_like(self._alive)
        if allowed is not None:
            mask[self._positions(np.asarray(allowed, dtype=np.int64))] = True
        if excluded is not None:
            mask[self._positions(np.asarray(excluded, dtype=np.int64))] = False
        return mask

    def _positions(self, rows: RowArray) -> RowArray:
        """Where these rows stand in the base; those that are not alive in it are left out."""
        if self._base is None or not len(self._base.rows) or not len(rows):
            return np.empty(0, dtype=np.int64)
        known = self._base.rows
        if not (rows[1:] > rows[:-1]).all():
            rows = np.unique(rows)
        first, last = int(known[0]), int(known[-1])
        if last - first + 1 == len(known):  # without a gap, as most are: no need to look for each
            place = rows[(rows >= first) & (rows <= last)] - first
        else:
            place = np.minimum(np.searchsorted(known, rows), len(known) - 1)
            place = place[known[place] == rows]
        found: RowArray = place[self._alive[place]]
        return found
