"""A collection that this process opens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from mmseek._types import Document, Hit, Image, Query
from mmseek.errors import ItemError
from mmseek.media import read_bytes
from mmseek.pipeline import Retriever
from mmseek.pipeline.encoders import check_one_vector
from mmseek.protocols import Encoder

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["LocalSource"]

_AT_ONCE: Final = 10_000


class LocalSource:
    """A retriever as a `SearchSource`.

    One thread at a time encodes, since encoders need not be safe for several. The asynchronous search runs in a thread.

    Args:
        retriever: its collection open for writing if anything is to be added or deleted.
    """

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        self._encoding = threading.Lock()

    @property
    def encoder(self) -> Encoder:
        """The encoder of the collection.

        Raises:
            InputError: it gives a vector for each token; such a collection is searched, and no more.
        """
        return check_one_vector(self._retriever.encoder)

    def search(self, query: Query, *, rerank: bool = True) -> tuple[Hit, ...]:
        with self._encoding:
            return self._retriever.search(query, rerank=rerank).hits

    def search_vector(self, vector: Sequence[float], k: int, filter: str | None = None) -> tuple[Hit, ...]:  # noqa: A002
        """The k documents nearest to a vector of the collection's encoder (dim floats).

        Raises:
            InputError: it is none, or k or the filter cannot be used.
        """
        return tuple(self._retriever.collection.search(np.asarray(vector, dtype=np.float32), k, filter=filter))

    def query_vector(self, query: Query) -> FloatArray:
        """The vector (dim,) of a query's content.

        Raises:
            MmseekError: it cannot be encoded.
        """
        with self._encoding:
            vector: FloatArray = self.encoder.encode_query([query.content], query.instruction)[0]
        return vector

    def vectors(self, ids: Sequence[str]) -> dict[str, FloatArray]:
        """The stored vectors (dim,) of these ids; unknown ids are left out."""
        return self._retriever.collection.vectors(ids)

    async def asearch(self, query: Query, *, rerank: bool = True) -> tuple[Hit, ...]:
        return await asyncio.to_thread(self.search, query, rerank=rerank)

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        return self._retriever.collection.get(ids)

    def documents(self, filter: str | None = None) -> Iterator[Document]:  # noqa: A002
        collection = self._retriever.collection
        if filter is None:
            yield from collection.documents()
            return
        # Every document has a vector, so a search from anywhere that is deep enough finds all that meet the condition.
        stored = collection.info().encoder
        anywhere = np.eye(1, stored.dim, dtype=np.float32)[slice(None) if stored.multi_vector else 0]
        found = {hit.id for hit in collection.search(anywhere, max(1, self.count()), filter=filter)}
        for document in collection.documents() if found else ():
            if document.id in found:
                yield document

    def count(self) -> int:
        return self._retriever.collection.info().documents

    def add(self, documents: Sequence[Document]) -> tuple[ItemError, ...]:
        with self._encoding:
            return self._retriever.add(documents).failed

    def delete(self, ids: Sequence[str]) -> int:
        return self._retriever.delete(ids)

    def clear(self, *, compact: bool = False) -> int:
        collection = self._retriever.collection
        removed = 0
        while ids := [document.id for document in islice(collection.documents(), _AT_ONCE)]:
            removed += collection.delete(ids)
        if compact:
            collection.compact()
        return removed

    def picture(self, image: Image) -> bytes:
        return read_bytes(image)

    def close(self) -> None:
        self._retriever.close()
