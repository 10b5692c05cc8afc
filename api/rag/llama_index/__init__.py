"""LlamaIndex: a retriever that takes pictures, a multimodal embedding and a postprocessor that reranks."""

from mmseek.errors import MissingExtra

try:
    import llama_index.core  # noqa: F401  # the gate: is it there?
except ImportError as error:
    raise MissingExtra("the LlamaIndex adapter", "llama-index") from error

from mmseek.api.rag.llama_index.embedding import MmseekEmbedding
from mmseek.api.rag.llama_index.reranker import MmseekReranker
from mmseek.api.rag.llama_index.retriever import MmseekRetriever

__all__ = ["MmseekEmbedding", "MmseekReranker", "MmseekRetriever"]
