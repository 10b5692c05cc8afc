"""The best of a pool for every query, by exact inner product, a block of the pool at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray

__all__ = ["Asked", "Best", "best_of"]

_QUERIES_AT_ONCE: Final = 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """What one query ranks: rows it must not see, rows it may see (None for all), and its labelled rows."""

    excluded: NDArray[np.int64]
    allowed: NDArray[np.int64] | None
    labelled: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Best:
    """Rows and scores (n, k), best first, padded with -1 and -inf; and each query's scores of its labelled rows."""

    rows: NDArray[np.int64]
    scores: FloatArray
    labelled: list[FloatArray]


def best_of(queries: FloatArray, pool: Iterable[FloatArray], asked: Sequence[Asked], k: int) -> Best:
    """The k best rows of each query. Equal scores are ordered by row; a row that is NaN is never found.

    Args:
        queries: (n, dim).
        pool: blocks (m, dim) in order.
        asked: one a query.
        k: at least 1.
    """
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    labelled, hidden = _Pairs([each.labelled for each in asked]), _Pairs([each.excluded for each in asked])
    told = np.full(len(labelled.rows), np.nan, dtype=np.float32)
    limited = [number for number, each in enumerate(asked) if each.allowed is not None]
    start = 0
    for block in pool:
        usable = np.isfinite(block).all(axis=1)
        for first in range(0, len(queries), _QUERIES_AT_ONCE):
            part = slice(first, min(first + _QUERIES_AT_ONCE, len(queries)))
            found = queries[part] @ block.T
            if not usable.all():
                found[:, ~usable] = -np.inf
            number, query, row = labelled.inside(part, start, len(block))
            told[number] = found[query, row]
            for limit in limited:
                if part.start <= limit < part.stop:
                    _keep(found[limit - first], asked[limit].allowed, start)
            _, query, row = hidden.inside(part, start, len(block))
            found[query, row] = -np.inf
            rows[part], scores[part] = _better(rows[part], scores[part], found, start, k)
        start += len(block)
    ends = np.cumsum([len(each.labelled) for each in asked])[:-1]
    return Best(rows, scores, np.split(told, ends))


class _Pairs:
    """Pairs of a query and a row of the pool, by row, so that those of a block are found at once."""

    def __init__(self, rows: Sequence[NDArray[np.int64]]) -> None:
        self.rows = np.concatenate([np.empty(0, dtype=np.int64), *rows])
        self._queries = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
        self._order = np.argsort(self.rows, kind="stable")
        self._sorted = self.rows[self._order]

    def inside(
        self, part: slice, start: int, length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Of a part of the queries and a block of the pool: the pairs' numbers, queries and rows in both."""
        numbers = self._order[slice(*np.searchsorted(self._sorted, [start, start + length]))]
        queries = self._queries[numbers]
        here = (queries >= part.start) & (queries < part.stop)
        return numbers[here], queries[here] - part.start, self.rows[numbers[here]] - start


def _keep(row: FloatArray, allowed: NDArray[np.int64] | None, start: int) -> None:
    """Hide what a query may not see."""
    assert allowed is not None
    here = allowed[(allowed >= start) & (allowed < start + len(row))] - start
    kept = row[here].copy()
    row[:] = -np.inf
    row[here] = kept


def _better(
    rows: NDArray[np.int64], scores: FloatArray, found: FloatArray, start: int, k: int
) -> tuple[NDArray[np.int64], FloatArray]:
    # Of equal scores the earlier row wins, so a later block must be above the k-th.
    hits = found > scores[:, -1:]
    if found.shape[1] > k and int(hits.sum(axis=1).max(initial=0)) > k:
        # Whatever equals the block's own k-th score may be among the k; ties beyond that are settled by row below.
        hits &= found >= np.partition(found, found.shape[1] - k, axis=1)[:, found.shape[1] - k, None]
    query, column = np.nonzero(hits)
    if not len(query):
        return rows, scores
    counts = np.bincount(query, minlength=len(rows))
    place = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    new_rows = np.full((len(rows), int(counts.max())), -1, dtype=np.int64)
    new_scores = np.full(new_rows.shape, -np.inf, dtype=np.float32)
    new_rows[query, place], new_scores[query, place] = column + start, found[query, column]
    all_rows, all_scores = np.concatenate([rows, new_rows], axis=1), np.concatenate([scores, new_scores], axis=1)
    order = np.lexsort((all_rows, -all_scores), axis=1)[:, :k]
    return np.take_along_axis(all_rows, order, axis=1), np.take_along_axis(all_scores, order, axis=1)
