"""What a collection gives when all of it is read: documents with their vectors, in batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmseek._types import Document, FloatArray

__all__ = ["StoredBatch"]


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """Some documents of a collection, whole: what `upsert` of another one takes.

    Args:
        documents: in the order in which they were stored; pictures that the collection keeps are given as bytes.
        vectors: float32, shape (n, dim), in that order; of a multi-vector collection an array (tokens, dim) each.
        digests: what `upsert` was given for each, or None.
    """

    documents: tuple[Document, ...]
    vectors: FloatArray | Sequence[FloatArray]
    digests: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.documents)
