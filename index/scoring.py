"""The one arithmetic of scores, whatever proposed a row, and the one order of equal scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import RowArray

CHUNK = 16384  # rows scored at a time


def exact_scores(vectors: FloatArray, query: FloatArray) -> FloatArray:
    """Inner products (n,) of vectors (n, dim) and a query (dim,): summed in float64, so that they never depend on n.

    Not by a matrix product: BLAS adds in another order for other n.
    """
    wide = np.asarray(vectors, dtype=np.float64), np.asarray(query, dtype=np.float64)
    scores: FloatArray = np.einsum("ij,j->i", *wide).astype(np.float32)
    return scores


def best_of(rows: RowArray, scores: FloatArray, k: int) -> tuple[RowArray, FloatArray]:
    """The k best of rows (n,) and their scores, best first; equal scores by row number."""
    best = np.lexsort((rows, -scores))[:k]
    return rows[best], scores[best]


def error_bound(dim: int, longest: float, queries: FloatArray) -> FloatArray:
    """How far apart two float32 scores (n,) must be to be surely in this order: twice the error bound of a sum.

    Args:
        dim: columns of a vector.
        longest: length of the longest vector.
        queries: (n, dim).
    """
    bound = 2 * dim * 2.0**-24 * longest * np.linalg.norm(queries, axis=1)
    return np.asarray(bound, dtype=np.float32)
