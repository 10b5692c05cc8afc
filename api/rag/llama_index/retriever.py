"""`MmseekRetriever`: what a query engine asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.callbacks import CallbackManager
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores import MetadataFilters

from mmseek._types import Query, SearchMode
from mmseek.api.rag.llama_index.filters import to_filter
from mmseek.api.rag.llama_index.nodes import to_nodes
from mmseek.api.rag.sources import SearchSource, make_query, open_source

if TYPE_CHECKING:
    from mmseek.pipeline import Retriever
    from mmseek.protocols import Reranker


class MmseekRetriever(BaseRetriever):  # type: ignore[misc]  # LlamaIndex's types are not followed
    """Finds texts, pictures and both for a question, for a picture, or for both.

    Examples:
        >>> retriever = MmseekRetriever("photos.index", similarity_top_k=3)
        >>> retriever.retrieve("a red bicycle")
        >>> retriever.retrieve(QueryBundle(query_str="the same in blue", image_path="photo.jpg"))

    Args:
        source: a collection folder, the URL of a service, a `Retriever` or a `SearchSource`.
        similarity_top_k: how many nodes, at least 1.
        filters: a condition on metadata (see `mmseek.filters`), a mapping of fields to values, or `MetadataFilters`.
        instruction: what to look for, to encoders and rerankers that can use it.
        mode: `dense`, `lexical` or `hybrid`.
        rerank: the spec of a reranker, a loaded one, or several.
        rerank_depth: how many hits each orders; see `mmseek.Retriever`.
        include_images: put the first picture's bytes into its node, for models that take pictures.
        callback_manager: LlamaIndex's.

    Raises:
        InputError: the filters cannot be said in mmseek's language.
    """

    def __init__(
        self,
        source: str | Path | Retriever | SearchSource,
        *,
        similarity_top_k: int = 4,
        filters: str | Mapping[str, Any] | MetadataFilters | None = None,
        instruction: str | None = None,
        mode: SearchMode = "dense",
        rerank: str | Reranker | Sequence[str | Reranker] | None = None,
        rerank_depth: int | Sequence[int] | None = None,
        include_images: bool = False,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        super().__init__(callback_manager=callback_manager)
        self.similarity_top_k = similarity_top_k
        self.instruction = instruction
        self.mode = mode
        self.include_images = include_images
        self._filter = to_filter(filters)
        self.source = open_source(source, rerank=rerank, rerank_depth=rerank_depth)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self.source.search(self._query(query_bundle))
        return to_nodes(hits, self.source, include_images=self.include_images)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = await self.source.asearch(self._query(query_bundle))
        return await asyncio.to_thread(to_nodes, hits, self.source, include_images=self.include_images)

    def _query(self, bundle: QueryBundle) -> Query:
        return make_query(
            bundle.query_str,
            bundle.image_path,
            k=self.similarity_top_k,
            filter=self._filter,
            instruction=self.instruction,
            mode=self.mode,
        )
