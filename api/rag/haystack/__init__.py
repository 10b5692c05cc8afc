"""Haystack: embedders, a document store, a retriever and a ranker.

Pipelines are saved by the names of these classes; load them with `Pipeline.loads(..., allowed_modules=["mmseek.*"])`.
"""

from mmseek.errors import MissingExtra

try:
    import haystack  # noqa: F401  # the gate: is it there?
except ImportError as error:
    raise MissingExtra("the Haystack adapter", "haystack") from error

from mmseek.api.rag.haystack.embedders import MmseekDocumentEmbedder, MmseekTextEmbedder
from mmseek.api.rag.haystack.ranker import MmseekRanker
from mmseek.api.rag.haystack.retriever import MmseekRetriever
from mmseek.api.rag.haystack.store import MmseekDocumentStore

__all__ = ["MmseekDocumentEmbedder", "MmseekDocumentStore", "MmseekRanker", "MmseekRetriever", "MmseekTextEmbedder"]
