"""`MmseekRetriever`: what a pipeline asks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Self

from haystack import component, default_from_dict, default_to_dict
from haystack.dataclasses import ByteStream
from haystack.dataclasses import Document as HaystackDocument

from mmseek._types import Hit, Query, SearchMode
from mmseek.api.rag.haystack.documents import from_hit, query_picture
from mmseek.api.rag.haystack.filters import to_filter
from mmseek.api.rag.haystack.store import MmseekDocumentStore
from mmseek.api.rag.sources import make_query
from mmseek.errors import InputError


@component
class MmseekRetriever:
    """Finds texts, pictures and both for a question, for a picture, or for both. No embedder stands before it.

    Args:
        document_store: the store, local or of a service.
        top_k: how many documents, at least 1.
        filters: Haystack's, or a condition of mmseek (see `mmseek.filters`).
        instruction: what to look for, to encoders and rerankers that can use it.
        mode: `dense`, `lexical` or `hybrid`.
        return_images: give the first picture of a document as its blob.

    Raises:
        InputError: this is no `MmseekDocumentStore`.
        FilterError: the filters cannot be read.
    """

    def __init__(
        self,
        document_store: MmseekDocumentStore,
        *,
        top_k: int = 10,
        filters: dict[str, Any] | str | None = None,
        instruction: str | None = None,
        mode: SearchMode = "dense",
        return_images: bool = True,
    ) -> None:
        if not isinstance(document_store, MmseekDocumentStore):
            raise InputError(f"document_store must be an MmseekDocumentStore, not {type(document_store).__name__}")
        to_filter(filters)
        self.document_store = document_store
        self.top_k = top_k
        self.filters = filters
        self.instruction = instruction
        self.mode = mode
        self.return_images = return_images

    def warm_up(self) -> None:
        """Open the store; a second call does nothing.

        Raises:
            MmseekError: it cannot be opened.
        """
        _ = self.document_store.source

    def to_dict(self) -> dict[str, Any]:
        """The settings and the store's, for a saved pipeline."""
        found: dict[str, Any] = default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            top_k=self.top_k,
            filters=self.filters,
            instruction=self.instruction,
            mode=self.mode,
            return_images=self.return_images,
        )
        return found

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The retriever that `to_dict` wrote down."""
        settings = dict(data.get("init_parameters", {}))
        if isinstance(settings.get("document_store"), dict):
            settings["document_store"] = MmseekDocumentStore.from_dict(settings["document_store"])
        retriever: Self = default_from_dict(cls, {**data, "init_parameters": settings})
        return retriever

    @component.output_types(documents=list[HaystackDocument])  # type: ignore[untyped-decorator]
    def run(
        self,
        query: str = "",
        image: ByteStream | str | None = None,
        filters: dict[str, Any] | str | None = None,
        top_k: int | None = None,
        instruction: str | None = None,
    ) -> dict[str, list[HaystackDocument]]:
        """The best documents, best first, with scores; `meta` says where pictures are, and `modality`.

        Raises:
            InputError: there is neither question nor picture.
            FilterError: the filters cannot be read.
            MmseekError: the collection or service cannot answer.
        """
        hits = self.document_store.source.search(self._query(query, image, filters, top_k, instruction))
        return {"documents": self._documents(hits)}

    @component.output_types(documents=list[HaystackDocument])  # type: ignore[untyped-decorator]
    async def run_async(
        self,
        query: str = "",
        image: ByteStream | str | None = None,
        filters: dict[str, Any] | str | None = None,
        top_k: int | None = None,
        instruction: str | None = None,
    ) -> dict[str, list[HaystackDocument]]:
        """As `run`."""
        asked = self._query(query, image, filters, top_k, instruction)
        source = await asyncio.to_thread(lambda: self.document_store.source)
        hits = await source.asearch(asked)
        return {"documents": await asyncio.to_thread(self._documents, hits)}

    def _query(
        self,
        query: str,
        image: ByteStream | str | None,
        filters: dict[str, Any] | str | None,
        top_k: int | None,
        instruction: str | None,
    ) -> Query:
        return make_query(
            query,
            query_picture(image),
            k=self.top_k if top_k is None else top_k,
            filter=to_filter(self.filters if filters is None else filters),
            instruction=self.instruction if instruction is None else instruction,
            mode=self.mode,
        )

    def _documents(self, hits: Sequence[Hit]) -> list[HaystackDocument]:
        source = self.document_store.source
        return [from_hit(hit, source, images=self.return_images) for hit in hits]
