"""`MmseekRanker`: a second look at what any retriever found."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from haystack import component, default_from_dict
from haystack.dataclasses import ByteStream
from haystack.dataclasses import Document as HaystackDocument

from mmseek.api.rag.haystack.documents import haystack_content, query_picture
from mmseek.api.rag.haystack.saving import saved
from mmseek.api.rag.reranking import order
from mmseek.api.rag.sources import make_query
from mmseek.pipeline.rerankers import load_reranker

if TYPE_CHECKING:
    from mmseek.protocols import Reranker


@component
class MmseekRanker:
    """Orders documents by how well they answer, looking at the pictures in their blobs too, and keeps the best.

    Args:
        reranker: a spec, or a loaded reranker.
        top_k: how many documents are kept; None keeps all.
        instruction: what relevant means, to rerankers that can use it.
        device: where a spec's model runs.
    """

    def __init__(
        self,
        reranker: str | Reranker,
        *,
        top_k: int | None = None,
        instruction: str | None = None,
        device: str | None = None,
    ) -> None:
        self.reranker = reranker
        self.top_k = top_k
        self.instruction = instruction
        self.device = device
        self._loaded: Reranker | None = None

    def warm_up(self) -> None:
        """Load the reranker; a second call does nothing.

        Raises:
            MmseekError: there is no such reranker, or its weights cannot be loaded.
        """
        if self._loaded is None:
            given = self.reranker
            self._loaded = load_reranker(given, device=self.device) if isinstance(given, str) else given

    def to_dict(self) -> dict[str, Any]:
        """The settings, for a saved pipeline.

        Raises:
            InputError: the reranker was given as an object.
        """
        return saved(
            self,
            "reranker",
            reranker=self.reranker,
            top_k=self.top_k,
            instruction=self.instruction,
            device=self.device,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The ranker that `to_dict` wrote down."""
        ranker: Self = default_from_dict(cls, data)
        return ranker

    @component.output_types(documents=list[HaystackDocument])  # type: ignore[untyped-decorator]
    def run(
        self,
        documents: list[HaystackDocument],
        query: str = "",
        image: ByteStream | str | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[HaystackDocument]]:
        """Copies of the best documents, best first, with the reranker's scores.

        Raises:
            InputError: there is neither question nor picture.
            MmseekError: not one document could be scored.
        """
        self.warm_up()
        assert self._loaded is not None
        asked = make_query(query, query_picture(image), k=1).content
        contents = [haystack_content(each) for each in documents]
        keep = self.top_k if top_k is None else top_k
        ranked = order(self._loaded, asked, contents, keep, self.instruction)
        return {"documents": [replace(documents[place], score=score) for place, score in ranked]}

    @component.output_types(documents=list[HaystackDocument])  # type: ignore[untyped-decorator]
    async def run_async(
        self,
        documents: list[HaystackDocument],
        query: str = "",
        image: ByteStream | str | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[HaystackDocument]]:
        """As `run`."""
        return await asyncio.to_thread(self.run, documents, query, image, top_k)
