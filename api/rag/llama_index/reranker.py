"""`MmseekReranker`: a second look at the nodes that any retriever found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from mmseek.api.rag.llama_index.nodes import node_content
from mmseek.api.rag.reranking import order, with_bytes
from mmseek.api.rag.sources import SearchSource, make_query
from mmseek.errors import InputError
from mmseek.pipeline.rerankers import load_reranker

if TYPE_CHECKING:
    from mmseek.protocols import Reranker


class MmseekReranker(BaseNodePostprocessor):  # type: ignore[misc]  # LlamaIndex's types are not followed
    """Orders nodes by how well they answer, looking at their pictures too, and keeps the best.

    Args:
        reranker: a spec, or a loaded reranker.
        top_n: how many nodes are kept; None keeps all.
        instruction: what relevant means, to rerankers that can use it.
        device: where a spec's model runs.
        source: the service whose pictures are to be read, for nodes that have only an `image_url` of it.
    """

    top_n: int | None = 3
    instruction: str | None = None

    _reranker: Any = PrivateAttr()
    _source: Any = PrivateAttr()

    def __init__(
        self,
        reranker: str | Reranker,
        *,
        top_n: int | None = 3,
        instruction: str | None = None,
        device: str | None = None,
        source: SearchSource | None = None,
    ) -> None:
        super().__init__(top_n=top_n, instruction=instruction)
        self._reranker = load_reranker(reranker, device=device) if isinstance(reranker, str) else reranker
        self._source = source

    @classmethod
    def class_name(cls) -> str:
        """The name in LlamaIndex's serialised settings."""
        return "MmseekReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise InputError("nodes are reranked for a query: give query_bundle or query_str")
        asked = make_query(query_bundle.query_str, query_bundle.image_path, k=1)
        contents = [node_content(each.node) for each in nodes]
        if self._source is not None:
            contents = [with_bytes(content, self._source.picture) for content in contents]
        return [
            NodeWithScore(node=nodes[place].node, score=score)
            for place, score in order(self._reranker, asked.content, contents, self.top_n, self.instruction)
        ]
