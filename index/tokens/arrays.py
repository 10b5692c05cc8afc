"""The vectors of tokens as they are stored: float16, and their mean, which finds candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmseek._types import Document
from mmseek.errors import InputError
from mmseek.index.codec import check_id

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray
    from mmseek.index.segments import HalfArray
    from mmseek.protocols import RowArray

_NOTHING = 1e-6  # a mean as short as this has no direction
_SHIFT = 13  # bits that float32 has more in its fraction
_BIAS = np.float32(2.0**112)  # by which the two exponents differ
_KEPT = np.int32(-0x70002000)  # the sign, and where the bits of a float16 come to stand


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """The vectors of some documents.

    Args:
        rows: of all tokens (tokens, dim), one document after the other.
        counts: tokens of each document (n,).
        means: float32 (n, dim), of length 1.
    """

    rows: HalfArray
    counts: RowArray
    means: FloatArray

    @property
    def starts(self) -> RowArray:
        """Where each document's rows begin (n,)."""
        return np.cumsum(self.counts) - self.counts

    def each(self) -> list[FloatArray]:
        """The vectors of each document, float32 (tokens, dim), as they are stored."""
        return (
            [matrix.astype(np.float32) for matrix in np.split(self.rows, self.starts[1:])] if len(self.counts) else []
        )


def check_tokens(
    documents: Sequence[Document], vectors: FloatArray | Sequence[FloatArray], dim: int, most: int
) -> TokenBatch:
    """Documents' vectors, an array (tokens, dim) each, as they are stored.

    Args:
        documents: whose they are.
        vectors: one array a document.
        dim: columns of each.
        most: rows that go into one file.

    Raises:
        InputError: shapes disagree, an id is none or comes twice, or a vector is no finite float16.
    """
    if len(vectors) != len(documents):
        raise InputError(f"{len(documents)} documents need as many arrays of vectors, not {len(vectors)}")
    seen: set[str] = set()
    halves = []
    for document, matrix in zip(documents, vectors, strict=True):
        check_id(document.id)
        if document.id in seen:
            raise InputError(f"document {document.id!r} is given twice in one call: give each id once")
        seen.add(document.id)
        halves.append(_half(document, matrix, dim, most))
    if not halves:
        empty = np.empty((0, dim), dtype=np.float32)
        return TokenBatch(empty.astype("<f2"), np.empty(0, dtype=np.int64), empty)
    counts = np.array([len(half) for half in halves], dtype=np.int64)
    means = np.stack([mean_of(half.astype(np.float32)) for half in halves])
    return TokenBatch(np.concatenate(halves), counts, means)


def check_token_query(vectors: FloatArray, dim: int) -> FloatArray:
    """A query's vectors as float32 (tokens, dim).

    Raises:
        InputError: another shape, no row, or NaN or infinity in it.
    """
    query = np.ascontiguousarray(vectors, dtype=np.float32)
    if query.ndim != 2 or query.shape[1:] != (dim,) or not len(query) or not np.isfinite(query).all():
        raise InputError(
            f"this is a multi-vector collection: a query is finite numbers of shape (tokens, {dim}), "
            f"not an array of shape {query.shape}"
        )
    return query


def mean_of(vectors: FloatArray) -> FloatArray:
    """The mean (dim,) of vectors (tokens, dim), of length 1; the first of them that is one where they cancel out."""
    wide = np.asarray(vectors, dtype=np.float64)
    mean = wide.mean(axis=0)
    if np.linalg.norm(mean) < _NOTHING:
        mean = wide[int(np.argmax(wide.any(axis=1)))]
    return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)


def one_each(vectors: FloatArray | Sequence[FloatArray]) -> FloatArray:
    """One vector a document (n, dim): those that are, or the means of their tokens'."""
    if isinstance(vectors, np.ndarray) and vectors.ndim == 2:
        return vectors
    return np.stack([mean_of(matrix) for matrix in vectors])


def widen(halves: HalfArray, out: FloatArray) -> FloatArray:
    """float16 numbers as float32 into `out`, exactly; several times as fast as numpy's own conversion.

    The bits of a float16 are put where a float32 has its own; what is left is a power of two. Finite numbers only.
    """
    bits: NDArray[Any] = out.view(np.int32)
    np.copyto(bits, halves.view(np.int16))  # keeps the sign
    np.left_shift(bits, _SHIFT, out=bits)
    np.bitwise_and(bits, _KEPT, out=bits)
    return np.multiply(out, _BIAS, out=out)


def _half(document: Document, matrix: FloatArray, dim: int, most: int) -> HalfArray:
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(np.asarray(matrix), dtype="<f2")
    if half.ndim != 2 or half.shape[1] != dim or not len(half):
        raise InputError(
            f"a multi-vector collection takes vectors of shape (tokens, {dim}) for each document, "
            f"and document {document.id!r} has {half.shape}"
        )
    if len(half) > most:
        raise InputError(f"document {document.id!r} has {len(half)} vectors, and {most} are the most")
    if not np.isfinite(half).all() or not half.any():
        raise InputError(f"a vector of document {document.id!r} has NaN or infinity in it, or all are zero")
    return half
