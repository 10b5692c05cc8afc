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
    labelled = [np.full(len(each.labelled), np.nan, dtype=np.float32) for each in asked]
    start = 0
    for block in pool:
        for first in range(0, len(queries), _QUERIES_AT_ONCE):
            part = slice(first, first + _QUERIES_AT_ONCE)
            found = np.nan_to_num(queries[part] @ block.T, nan=-np.inf)
            for row, query in zip(found, range(first, first + len(found)), strict=True):
                _look(row, asked[query], labelled[query], start)
            rows[part], scores[part] = _better(rows[part], scores[part], found, start, k)
        start += len(block)
    return Best(rows, scores, labelled)


def _look(row: FloatArray, asked: Asked, labelled: FloatArray, start: int) -> None:
    """Take a query's labelled scores out of a block, and hide what it must not see."""
    end = start + len(row)
    inside = (asked.labelled >= start) & (asked.labelled < end)
    labelled[inside] = row[asked.labelled[inside] - start]
    if asked.allowed is not None:
        here = asked.allowed[(asked.allowed >= start) & (asked.allowed < end)] - start
        kept = row[here].copy()
        row[:] = -np.inf
        row[here] = kept
    row[asked.excluded[(asked.excluded >= start) & (asked.excluded < end)] - start] = -np.inf


def _better(
    rows: NDArray[np.int64], scores: FloatArray, found: FloatArray, start: int, k: int
) -> tuple[NDArray[np.int64], FloatArray]:
    if found.shape[1] > k:
        # Whatever equals the k-th score may be among the k; ties beyond that are rare and settled by row below.
        kth = np.partition(found, found.shape[1] - k, axis=1)[:, found.shape[1] - k]
        most = int((found >= kth[:, None]).sum(axis=1).max())
        columns = np.argsort(-found, axis=1, kind="stable")[:, : max(k, most)] if most > k else _top(found, k)
    else:
        columns = np.broadcast_to(np.arange(found.shape[1]), found.shape)
    all_rows = np.concatenate([rows, columns + start], axis=1)
    all_scores = np.concatenate([scores, np.take_along_axis(found, columns, axis=1)], axis=1)
    order = np.lexsort((all_rows, -all_scores), axis=1)[:, :k]
    chosen, values = np.take_along_axis(all_rows, order, axis=1), np.take_along_axis(all_scores, order, axis=1)
    return np.where(np.isneginf(values), -1, chosen), values


def _top(found: FloatArray, k: int) -> NDArray[np.int64]:
    columns: NDArray[np.int64] = np.argpartition(found, found.shape[1] - k, axis=1)[:, found.shape[1] - k :]
    return columns
