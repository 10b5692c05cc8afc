"""Where the rooms meet: indexing a corpus, and searching it."""

from mmseek.pipeline.indexing import index_corpus
from mmseek.pipeline.report import IndexingInterrupted, IndexingStopped, IndexReport, Progress, write_report
from mmseek.pipeline.rerankers import load_reranker
from mmseek.pipeline.retriever import Retriever, SearchResult

__all__ = [
    "IndexReport",
    "IndexingInterrupted",
    "IndexingStopped",
    "Progress",
    "Retriever",
    "SearchResult",
    "index_corpus",
    "load_reranker",
    "write_report",
]
