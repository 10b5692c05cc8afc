"""`MmseekReranker`: a second look at what any retriever found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor
from langchain_core.documents import Document as LangChainDocument
from pydantic import ConfigDict, PrivateAttr

from mmseek._types import Query
from mmseek.api.rag.facts import content_of
from mmseek.api.rag.reranking import order, with_bytes
from mmseek.api.rag.sources import make_query
from mmseek.pipeline.rerankers import load_reranker


class MmseekReranker(BaseDocumentCompressor):  # type: ignore[misc]  # LangChain's types are not followed
    """Orders documents by how well they answer, looking at their pictures too, and keeps the best.

    The pictures are those that `image_path` in the metadata names; `image_url` is read if `source` is the service that
    it came from. The score stands in the metadata as `relevance_score`.

    Attributes:
        reranker: a spec, or a loaded reranker.
        top_n: how many documents are kept; None keeps all.
        instruction: what relevant means, to rerankers that can use it.
        device: where a spec's model runs.
        source: the service whose pictures are to be read.
    """

    reranker: Any
    top_n: int | None = 3
    instruction: str | None = None
    device: str | None = None
    source: Any = None

    model_config = ConfigDict(arbitrary_types_allowed=True)
    _loaded: Any = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Load the reranker."""
        super().model_post_init(context)
        given = self.reranker
        self._loaded = load_reranker(given, device=self.device) if isinstance(given, str) else given

    def compress_documents(
        self, documents: Sequence[LangChainDocument], query: str, callbacks: Callbacks | None = None
    ) -> list[LangChainDocument]:
        """The best documents, best first; copies, with `relevance_score`.

        Raises:
            InputError: the query is empty.
            MmseekError: not one document could be scored.
        """
        del callbacks
        asked: Query = make_query(query, k=1)
        contents = [content_of(document.page_content, document.metadata) for document in documents]
        if self.source is not None:
            contents = [with_bytes(content, self.source.picture) for content in contents]
        return [
            documents[place].model_copy(update={"metadata": {**documents[place].metadata, "relevance_score": score}})
            for place, score in order(self._loaded, asked.content, contents, self.top_n, self.instruction)
        ]
