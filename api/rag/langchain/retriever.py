"""`MmseekRetriever`: what a chain asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document as LangChainDocument
from langchain_core.retrievers import BaseRetriever
from pydantic import PrivateAttr

from mmseek._types import Query, SearchMode
from mmseek.api.rag.conditions import as_filter
from mmseek.api.rag.langchain.documents import from_hits
from mmseek.api.rag.sources import SearchSource, make_query, open_source


class MmseekRetriever(BaseRetriever):  # type: ignore[misc]  # LangChain's types are not followed
    """Finds texts, pictures and both for a question, for a picture, or for both.

    What is set here holds for every question; `invoke(question, k=..., filter=..., instruction=..., mode=...,
    image=..., rerank=False)` says otherwise for one. A document's metadata has its own entries and `id`, `score`,
    `modality`, and for pictures `image_path` (or `image_url`, of a service) and `mime_type`.

    Examples:
        >>> retriever = MmseekRetriever(source="photos.index", k=3)
        >>> retriever.invoke("a red bicycle")
        >>> retriever.invoke("the same in blue", image="photo.jpg")

    Attributes:
        source: a collection folder, the URL of a service, a `Retriever` or a `SearchSource`.
        k: how many documents, at least 1.
        filter: a condition on metadata (see `mmseek.filters`), or a mapping of fields to values.
        instruction: what to look for, to encoders and rerankers that can use it.
        mode: `dense`, `lexical` or `hybrid`.
        rerank: the spec of a reranker, a loaded one, or several.
        rerank_depth: how many hits each orders; see `mmseek.Retriever`.
        include_images: put the first picture's bytes into the metadata too, as a `data:` URI named `image`.
    """

    source: Any
    k: int = 4
    filter: str | dict[str, Any] | None = None
    instruction: str | None = None
    mode: SearchMode = "dense"
    rerank: Any = None
    rerank_depth: int | list[int] | None = None
    include_images: bool = False

    _opened: Any = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Open the source."""
        super().model_post_init(context)
        self._opened = open_source(self.source, rerank=self.rerank, rerank_depth=self.rerank_depth)

    @property
    def opened(self) -> SearchSource:
        """The source that is searched."""
        source: SearchSource = self._opened
        return source

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun | None = None,
        image: Any = None,
        rerank: bool = True,
        **options: Any,
    ) -> list[LangChainDocument]:
        del run_manager
        hits = self.opened.search(self._query(query, image, **options), rerank=rerank)
        return from_hits(hits, self.opened, include_images=self.include_images)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun | None = None,
        image: Any = None,
        rerank: bool = True,
        **options: Any,
    ) -> list[LangChainDocument]:
        del run_manager
        hits = await self.opened.asearch(self._query(query, image, **options), rerank=rerank)
        return await asyncio.to_thread(from_hits, hits, self.opened, include_images=self.include_images)

    def _query(
        self,
        text: str,
        image: Any,
        *,
        k: int | None = None,
        filter: str | Mapping[str, Any] | None = None,  # noqa: A002  # the word of all surfaces
        instruction: str | None = None,
        mode: SearchMode | None = None,
    ) -> Query:
        return make_query(
            text,
            image,
            k=self.k if k is None else k,
            filter=as_filter(self.filter if filter is None else filter),
            instruction=self.instruction if instruction is None else instruction,
            mode=mode or self.mode,
        )
