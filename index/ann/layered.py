"""A vector index in two layers: a base that is built once, and an exact delta of what came since.

The base only proposes; every score is computed from full vectors in the arithmetic of the exact index. So a row's score
is the same in the base, in the delta and without any of this, and both layers' hits merge as if they were one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from mmseek.errors import InputError
from mmseek.index.ann.masks import Mask, MaskCache
from mmseek.index.ann.plan import Plan
from mmseek.index.ann.proposer import Proposer
from mmseek.index.ann.sources import VectorSource
from mmseek.index.exact import FaissExactIndex
from mmseek.index.scoring import CHUNK, best_of, error_bound, exact_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray
    from mmseek.protocols import RowArray

    _Best: TypeAlias = tuple[RowArray, FloatArray]  # rows (n,) and their scores (n,), best first

_FEW = 1024  # rows that are always all scored
_MARGIN = 16
_MOST_PROPOSED = 16_384  # FAISS's heaps are slow for more
_NOTHING = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))


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
        self._masks = MaskCache()

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
        if len(positions):
            self._masks.clear()
        self._delta.remove(rows)

    def search(
        self, queries: FloatArray, k: int, *, allowed: RowArray | None = None, excluded: RowArray | None = None
    ) -> tuple[RowArray, FloatArray]:
        base = self._base
        if base is None or not self._living or k < 1 or queries.shape[1:] != (self._dim,):
            # The delta says what is wrong with a query, too.
            return self._delta.search(queries, k, allowed=allowed, excluded=excluded)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        best = self._best_of_base(base, queries, k, self._mask(allowed, excluded))
        if len(self._delta):
            newer = self._delta.search(queries, k, allowed=allowed, excluded=excluded)
            best = [_merged(old, (rows, scores), k) for old, rows, scores in zip(best, *newer, strict=True)]
        return _filled(best, k)

    def _best_of_base(self, base: Base, queries: FloatArray, k: int, mask: Mask | None) -> list[_Best]:
        """For each query its k best living rows of the base, as many as there are."""
        living = self._living if mask is None else mask.count
        if not living:
            return [_NOTHING] * len(queries)
        pools = self._propose(base, queries, k, mask, living)
        return [self._score(base, pool, query, k) for pool, query in zip(pools, queries, strict=True)]

    def _propose(self, base: Base, queries: FloatArray, k: int, mask: Mask | None, living: int) -> list[RowArray]:
        """For each query, positions that hold about its k best living rows of the base."""
        count = max(k * base.plan.rescore, k + _MARGIN)
        few = self._few
        if mask is not None:
            few = max(few, round(base.proposer.cost(base.plan, living / len(base.rows))))
        if living <= few or count > _MOST_PROPOSED or 2 * count > living:
            return [self._all(base, query, k, mask) for query in queries]
        proposed = base.proposer.propose(queries, count, base.plan, mask)
        # What FAISS does not find it fills up at the end.
        pools = [positions if positions[-1] >= 0 else positions[positions >= 0] for positions in proposed]
        return [
            pool if len(pool) >= k else self._all(base, query, k, mask)
            for pool, query in zip(pools, queries, strict=True)
        ]

    def _all(self, base: Base, query: FloatArray, k: int, mask: Mask | None) -> RowArray:
        """Like `_propose` for one query, exactly: by scoring all that may be found."""
        pool = np.arange(len(base.rows)) if mask is None else np.flatnonzero(mask.flags)
        scores = np.empty(len(pool), dtype=np.float32)
        for low in range(0, len(pool), CHUNK):
            scores[low : low + CHUNK] = base.source.take(pool[low : low + CHUNK]) @ query
        if k >= len(pool):
            return pool
        doubt = error_bound(self._dim, base.longest, query[None])[0]
        bar = np.partition(scores, len(pool) - k)[len(pool) - k] - doubt
        kept: RowArray = pool[scores >= bar]
        return kept

    def _score(self, base: Base, positions: RowArray, query: FloatArray, k: int) -> _Best:
        if len(positions) <= CHUNK:
            scores = exact_scores(base.source.take(positions), query)
        else:
            scores = np.empty(len(positions), dtype=np.float32)
            for low in range(0, len(positions), CHUNK):
                part = positions[low : low + CHUNK]
                scores[low : low + CHUNK] = exact_scores(base.source.take(part), query)
        return best_of(base.rows[positions], scores, k)

    def _mask(self, allowed: RowArray | None, excluded: RowArray | None) -> Mask | None:
        """Positions of the base that may be found, or None for all."""
        if excluded is not None and len(excluded):
            flags = self._flags(allowed)
            flags[self._positions(np.asarray(excluded, dtype=np.int64))] = False
            return Mask.of(flags)
        if allowed is None and self._living == len(self._alive):
            return None
        return self._masks.get(allowed, lambda: Mask.of(self._flags(allowed)))

    def _flags(self, allowed: RowArray | None) -> NDArray[np.bool_]:
        """The living among the allowed."""
        if allowed is None:
            return self._alive.copy()
        flags = np.zeros_like(self._alive)
        flags[self._positions(np.asarray(allowed, dtype=np.int64))] = True
        return flags

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


def _merged(one: _Best, other: _Best, k: int) -> _Best:
    """The k best of two, the second of which may be filled up with -1."""
    there = other[0] >= 0
    rows, scores = np.concatenate([one[0], other[0][there]]), np.concatenate([one[1], other[1][there]])
    return best_of(rows, scores, k)


def _filled(best: list[_Best], k: int) -> tuple[RowArray, FloatArray]:
    """Rows and scores of all queries, (n, k) each, filled up with -1 and -inf."""
    if len(best) == 1 and len(best[0][0]) == k:
        return best[0][0][None], best[0][1][None]
    rows = np.full((len(best), k), -1, dtype=np.int64)
    scores = np.full((len(best), k), -np.inf, dtype=np.float32)
    for number, (found, values) in enumerate(best):
        rows[number, : len(found)], scores[number, : len(found)] = found, values
    return rows, scores
