"""`MmseekDocumentStore`: a collection as a Haystack document store."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from haystack import default_from_dict, default_to_dict
from haystack.dataclasses import Document as HaystackDocument
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret

from mmseek.api.rag.haystack.documents import are_documents, from_document, to_document
from mmseek.api.rag.haystack.filters import to_filter
from mmseek.api.rag.sources import SearchSource, open_source
from mmseek.errors import InputError, ItemError, MmseekError

if TYPE_CHECKING:
    from mmseek.pipeline import Retriever
    from mmseek.pipeline.retriever import Mode


class NotDocuments(InputError, ValueError):
    """What is to be written are no Haystack documents."""


class MmseekDocumentStore:
    """Texts and pictures in a collection or a service, which encodes them itself.

    A document is its `content`, its `blob` if that is a picture, or both. Embeddings that documents bring are not kept,
    and none come back: a collection holds the vectors of one encoder. It is opened at the first use.

    Args:
        location: a collection folder or the URL of a service; or, if it is never saved, an open `Retriever` or source.
        mode: `write`; or `read`, which leaves the one right to write to another process.
        encoder: the spec of the encoder that makes a new collection, if there is none at this folder.
        device: where the encoder and the reranker run.
        rerank: the spec of a reranker for searches, or several.
        rerank_depth: how many hits each orders; see `mmseek.Retriever`.
        api_key: of a service.
    """

    def __init__(
        self,
        location: str | Path | Retriever | SearchSource,
        *,
        mode: Mode = "write",
        encoder: str | None = None,
        device: str | None = None,
        rerank: str | list[str] | None = None,
        rerank_depth: int | list[int] | None = None,
        api_key: Secret | None = None,
    ) -> None:
        self.location = location
        self.mode = mode
        self.encoder = encoder
        self.device = device
        self.rerank = rerank
        self.rerank_depth = rerank_depth
        self.api_key = api_key
        self._source: SearchSource | None = None
        self._opening = threading.Lock()

    @property
    def source(self) -> SearchSource:
        """The collection or service, opened.

        Raises:
            MmseekError: as `open_source`.
        """
        with self._opening:
            if self._source is None:
                self._source = open_source(
                    self.location,
                    mode=self.mode,
                    encoder=self.encoder,
                    device=self.device,
                    rerank=self.rerank,
                    rerank_depth=self.rerank_depth,
                    api_key=None if self.api_key is None else self.api_key.resolve_value(),
                )
            return self._source

    def to_dict(self) -> dict[str, Any]:
        """The settings, for a saved pipeline; a key only as the name of its environment variable.

        Raises:
            InputError: the store was made of something that is open already.
        """
        if not isinstance(self.location, str | Path):
            raise InputError("a store of an open retriever or source cannot be saved: make it with a folder or a URL")
        found: dict[str, Any] = default_to_dict(
            self,
            location=str(self.location),
            mode=self.mode,
            encoder=self.encoder,
            device=self.device,
            rerank=self.rerank,
            rerank_depth=self.rerank_depth,
            api_key=None if self.api_key is None else self.api_key.to_dict(),
        )
        return found

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The store that `to_dict` wrote down."""
        settings = dict(data.get("init_parameters", {}))
        if isinstance(settings.get("api_key"), dict):
            settings["api_key"] = Secret.from_dict(settings["api_key"])
        store: Self = default_from_dict(cls, {**data, "init_parameters": settings})
        return store

    def count_documents(self) -> int:
        """How many documents there are."""
        return self.source.count()

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[HaystackDocument]:
        """The documents that the filters hold for, in the order in which a collection keeps them.

        Raises:
            FilterError: the filters cannot be read.
        """
        source = self.source
        return [from_document(document, source) for document in source.documents(to_filter(filters))]

    def write_documents(self, documents: list[HaystackDocument], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Write documents; without a policy, one that is there already is an error.

        Returns:
            How many were written.

        Raises:
            ValueError: these are no documents.
            DuplicateDocumentError: one is there already, or twice among these; nothing was written.
            ItemError: a document could not be stored; all others are.
        """
        if not are_documents(documents):
            raise NotDocuments("write_documents takes a list of haystack.Document")
        if policy != DuplicatePolicy.OVERWRITE:
            documents = self._new_ones(documents, policy)
        latest = {document.id: document for document in documents}
        failed: list[ItemError] = []
        given = []
        for document in latest.values():
            try:
                given.append(to_document(document))
            except MmseekError as error:
                failed.append(ItemError(str(error), item_id=document.id))
        failed += self.source.add(given)
        if failed:
            raise ItemError(
                f"{failed[0].reason} ({len(failed)} of {len(latest)} documents were not written, the others were)",
                item_id=failed[0].item_id,
            )
        return len(documents)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Remove documents; unknown ids are no error."""
        self.source.delete(document_ids)

    def delete_all_documents(self, recreate_index: bool = False) -> None:
        """Remove every document; the collection stays, with its encoder.

        Args:
            recreate_index: begin anew on the disk as well: what the documents took, vectors, pictures and indexes, is
                given back before this returns. Without it that space is given back by `mmseek compact`.
        """
        self.source.clear(compact=recreate_index)

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Remove the documents that the filters hold for; gives their number.

        Raises:
            FilterError: the filters cannot be read.
        """
        return self.source.delete([document.id for document in self.source.documents(to_filter(filters))])

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Set entries of the metadata where the filters hold; gives the number of these documents.

        Raises:
            FilterError: the filters cannot be read.
            ItemError: a document could not be stored anew; it is as it was.
        """
        found = list(self.source.documents(to_filter(filters)))
        failed = self.source.add([replace(each, metadata={**each.metadata, **meta}) for each in found])
        if failed:
            raise failed[0]
        return len(found)

    def close(self) -> None:
        """Close the collection or the connections; the next use opens them again."""
        with self._opening:
            source, self._source = self._source, None
        if source is not None:
            source.close()

    async def count_documents_async(self) -> int:
        """As `count_documents`."""
        return await asyncio.to_thread(self.count_documents)

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[HaystackDocument]:
        """As `filter_documents`."""
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self, documents: list[HaystackDocument], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """As `write_documents`."""
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """As `delete_documents`."""
        await asyncio.to_thread(self.delete_documents, document_ids)

    async def delete_all_documents_async(self, recreate_index: bool = False) -> None:
        """As `delete_all_documents`."""
        await asyncio.to_thread(self.delete_all_documents, recreate_index)

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        """As `delete_by_filter`."""
        return await asyncio.to_thread(self.delete_by_filter, filters)

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """As `update_by_filter`."""
        return await asyncio.to_thread(self.update_by_filter, filters, meta)

    def _new_ones(self, documents: list[HaystackDocument], policy: DuplicatePolicy) -> list[HaystackDocument]:
        held = set(self.source.get([document.id for document in documents]))
        new = []
        for document in documents:
            if document.id not in held:
                new.append(document)
                held.add(document.id)
            elif policy != DuplicatePolicy.SKIP:
                raise DuplicateDocumentError(
                    f"there is a document {document.id!r} already: write with policy=DuplicatePolicy.OVERWRITE or SKIP"
                )
        return new
