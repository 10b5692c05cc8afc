"""LangChain: a retriever, embeddings, a vector store and a document compressor that reranks."""

from mmseek.errors import MissingExtra

try:
    import langchain_core  # noqa: F401  # the gate: is it there?
except ImportError as error:
    raise MissingExtra("the LangChain adapter", "langchain") from error

from mmseek.api.rag.langchain.embeddings import MmseekEmbeddings
from mmseek.api.rag.langchain.reranker import MmseekReranker
from mmseek.api.rag.langchain.retriever import MmseekRetriever
from mmseek.api.rag.langchain.vectorstore import MmseekVectorStore

__all__ = ["MmseekEmbeddings", "MmseekReranker", "MmseekRetriever", "MmseekVectorStore"]
