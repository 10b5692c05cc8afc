"""What a caller may get wrong, said the same way by every kind of collection."""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmseek._types import Document
from mmseek.errors import InputError
from mmseek.index.codec import check_id

if TYPE_CHECKING:
    from mmseek._types import FloatArray


def check_upsert(documents: Sequence[Document], vectors: FloatArray | Sequence[FloatArray], dim: int) -> FloatArray:
    """The vectors as a float32 matrix (n, dim).

    Raises:
        InputError: shapes disagree, an id is none or comes twice, or a vector has no direction.
    """
    with np.errstate(over="ignore"):
        matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    wanted = (len(documents), dim)
    if matrix.shape != wanted and (len(documents) or matrix.size):
        raise InputError(f"{wanted[0]} documents need vectors of shape {wanted}, not {matrix.shape}")
    seen: set[str] = set()
    for document in documents:
        check_id(document.id)
        if document.id in seen:
            raise InputError(f"document {document.id!r} is given twice in one call: give each id once")
        seen.add(document.id)
    if documents:
        _check_values(documents, matrix)
    return matrix


def check_digests(documents: Sequence[Document], digests: Sequence[str | None] | None) -> None:
    """Refuse another number of digests than of documents."""
    if digests is not None and len(digests) != len(documents):
        raise InputError(f"{len(documents)} documents need as many digests, not {len(digests)}")


def check_query(vector: FloatArray, dim: int) -> FloatArray:
    """A query vector as float32 (dim,).

    Raises:
        InputError: another shape, or NaN or infinity in it.
    """
    query = np.asarray(vector, dtype=np.float32)
    if query.shape != (dim,) or not np.isfinite(query).all():
        raise InputError(f"a query vector is {dim} finite numbers, not an array of shape {query.shape}")
    return query


def check_k(k: int) -> None:
    """Refuse to look for no hits."""
    if k < 1:
        raise InputError(f"k is the number of hits and must be at least 1, not {k}")


def id_list(ids: Container[str]) -> list[str]:
    """Ids as a list; a string is taken for a mistake."""
    if isinstance(ids, str):
        raise InputError(f"give a list of ids, not the string {ids!r}")
    return list(ids)


def _check_values(documents: Sequence[Document], matrix: FloatArray) -> None:
    usable = np.isfinite(matrix).all(axis=1) & matrix.any(axis=1)
    if not usable.all():
        bad = documents[int(np.argmin(usable))]
        raise InputError(f"the vector of document {bad.id!r} has NaN or infinity in it, or is all zero")
